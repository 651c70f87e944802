//! Who has series of their own: the few names that matter most, for as long as nobody else matters more.
//!
//! In: names, and what each weighs. Out: whether a name has series. A label must not take whatever value an outsider thinks
//! of, and a series that comes and goes with every scrape is of no use: a name that is in stays until another has
//! weighed twice as much for a while.

use std::{collections::HashMap, num::NonZeroUsize};

use lru::LruCache;

/// The label of all names that have no series of their own.
pub(super) const OTHER: &str = "other";

/// Names that are weighed though they have no series.
const CANDIDATES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How much more a name must weigh than one that is in, to take its place.
const MUCH_MORE: f64 = 2.0;

/// The names that are in, and those that may be.
pub(super) struct Top {
    limit: usize,
    members: HashMap<String, f64>,
    candidates: LruCache<String, f64>,
    /// How often a name got no series, or lost them.
    dropped: u64,
}

impl Top {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, members: HashMap::new(), candidates: LruCache::new(CANDIDATES), dropped: 0 }
    }

    /// Something of this weight is of this name. Whether the name has series of its own: while there is room, it gets them.
    pub(super) fn weigh(&mut self, name: &str, weight: f64) -> bool {
        if let Some(known) = self.members.get_mut(name) {
            *known += weight;
            return true;
        }
        if name == OTHER {
            return false;
        }
        if self.members.len() < self.limit {
            self.members.insert(name.to_owned(), weight);
            return true;
        }
        if let Some(known) = self.candidates.get_mut(name) {
            *known += weight;
        } else {
            self.candidates.put(name.to_owned(), weight);
            self.dropped += 1;
        }
        false
    }

    /// Whether a name has series of its own.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The names that have series.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// How often a name got no series, or lost them.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// These are all the names there are, the heaviest first, and what each weighs now. Gives back the names that lose
    /// their series to others.
    pub(super) fn rank(&mut self, names: &[(&str, f64)]) -> Vec<String> {
        self.members.values_mut().for_each(|weight| *weight = 0.0);
        self.candidates.iter_mut().for_each(|(_, weight)| *weight = 0.0);
        for &(name, weight) in names {
            if let Some(known) = self.members.get_mut(name) {
                *known = weight;
            }
        }
        // Of the others, the lightest would push the heaviest out.
        let others = names.iter().filter(|(name, _)| !self.members.contains_key(*name));
        let others: Vec<_> = others.take(CANDIDATES.get()).copied().collect();
        for (name, weight) in others {
            self.weigh(name, weight);
        }
        self.let_in()
    }

    /// Some time has passed: what was weighed before counts half as much from now on. Gives back the names that lose their
    /// series to others.
    pub(super) fn renew(&mut self) -> Vec<String> {
        let lost = self.let_in();
        self.members.values_mut().for_each(|weight| *weight /= 2.0);
        self.candidates.iter_mut().for_each(|(_, weight)| *weight /= 2.0);
        lost
    }

    /// Whoever weighs much more than one that is in takes its place.
    fn let_in(&mut self) -> Vec<String> {
        let mut lost = Vec::new();
        while let Some((name, weight)) = heaviest(self.candidates.iter())
            && let Some((weakest, least)) = lightest(self.members.iter())
            && weight > least * MUCH_MORE
        {
            self.members.remove(&weakest);
            self.candidates.pop(&name);
            self.members.insert(name, weight);
            self.candidates.put(weakest.clone(), least);
            self.dropped += 1;
            lost.push(weakest);
        }
        lost
    }
}

fn heaviest<'a>(names: impl Iterator<Item = (&'a String, &'a f64)>) -> Option<(String, f64)> {
    names.max_by(|a, b| a.1.total_cmp(b.1)).map(|(name, &weight)| (name.clone(), weight))
}

fn lightest<'a>(names: impl Iterator<Item = (&'a String, &'a f64)>) -> Option<(String, f64)> {
    names.min_by(|a, b| a.1.total_cmp(b.1)).map(|(name, &weight)| (name.clone(), weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(top: &Top) -> Vec<&str> {
        let mut members: Vec<&str> = top.members().collect();
        members.sort_unstable();
        members
    }

    #[test]
    fn whoever_comes_first_is_in_until_there_is_no_room() {
        let mut top = Top::new(2);
        assert!(top.weigh("a", 1.0) && top.weigh("b", 1.0));
        assert!(!top.weigh("c", 1.0) && !top.weigh("c", 1.0));
        assert!(top.weigh("a", 1.0));
        assert!(!Top::new(2).weigh(OTHER, 1.0), "that is all the others");
        assert_eq!((members(&top), top.dropped()), (vec!["a", "b"], 1));
    }

    #[test]
    fn only_much_more_weight_takes_a_place() {
        let mut top = Top::new(2);
        top.weigh("a", 100.0);
        top.weigh("b", 10.0);
        top.weigh("c", 19.0);
        assert_eq!(top.renew(), Vec::<String>::new(), "no series comes and goes for a little more");
        top.weigh("c", 12.0);
        assert_eq!(top.renew(), ["b"]);
        assert_eq!((members(&top), top.dropped()), (vec!["a", "c"], 2));
        assert_eq!(top.renew(), Vec::<String>::new());
    }

    /// Whoever weighed much long ago makes room for whoever weighs something now.
    #[test]
    fn what_was_weighed_long_ago_counts_little() {
        let mut top = Top::new(1);
        top.weigh("a", 1e6);
        let mut minutes = 0;
        while top.renew().is_empty() {
            top.weigh("b", 100.0);
            minutes += 1;
            assert!(minutes < 20, "it is never let in");
        }
        assert_eq!(members(&top), ["b"]);
        assert!(minutes > 5, "it was let in at once");
    }

    #[test]
    fn of_all_names_the_heaviest_are_in() {
        let mut top = Top::new(2);
        let rank = |top: &mut Top, names: &[(&str, f64)]| top.rank(names);
        assert_eq!(rank(&mut top, &[("a", 9.0), ("b", 8.0), ("c", 7.0)]), Vec::<String>::new());
        assert_eq!((members(&top), top.dropped()), (vec!["a", "b"], 1));
        assert_eq!(rank(&mut top, &[("c", 9.0), ("a", 8.0), ("b", 5.0)]), Vec::<String>::new());
        assert_eq!(rank(&mut top, &[("c", 11.0), ("a", 8.0), ("b", 5.0)]), ["b"]);
        // One that is gone makes room for any other.
        assert_eq!(rank(&mut top, &[("a", 8.0), ("b", 1.0)]), ["c"]);
        assert_eq!(members(&top), ["a", "b"]);
    }

    #[test]
    fn the_heaviest_is_let_in_however_many_there_are() {
        let mut top = Top::new(1);
        top.rank(&[("a", 10.0)]);
        let names: Vec<String> = (0..3 * CANDIDATES.get()).map(|number| number.to_string()).collect();
        let mut ranked = vec![("heavy", 1000.0), ("a", 10.0)];
        ranked.extend(names.iter().map(|name| (name.as_str(), 1.0)));
        assert_eq!(top.rank(&ranked), ["a"]);
        assert_eq!(members(&top), ["heavy"]);
    }

    #[test]
    fn candidates_are_only_so_many() {
        let mut top = Top::new(1);
        for number in 0..2 * CANDIDATES.get() {
            top.weigh(&number.to_string(), 1.0);
        }
        assert_eq!(top.candidates.len(), CANDIDATES.get());
    }
}
