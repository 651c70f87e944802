//! Policies: what a wire does with a segment, and the usual ways to lose just the right one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::segment::{Direction, Segment, is_after};

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on at once.
    Pass,
    /// It is lost.
    Drop,
    /// It goes on after this time; later segments may overtake it.
    Delay(Duration),
    /// It arrives twice.
    Duplicate,
    /// It waits for [`Wire::release`](super::Wire::release).
    Hold,
}

/// The form in which a wire keeps its policy.
pub(crate) type Policy = Box<dyn FnMut(&Segment) -> Verdict + Send>;

/// Passes everything.
pub const fn pass() -> impl FnMut(&Segment) -> Verdict + Send + 'static {
    |_| Verdict::Pass
}

/// Gives `verdict` to the `n`-th segment that fits (counted from one), and passes all others.
///
/// The predicate sees every segment, so it may keep state.
pub const fn nth<P>(
    mut predicate: P,
    n: usize,
    verdict: Verdict,
) -> impl FnMut(&Segment) -> Verdict + Send + 'static
where
    P: FnMut(&Segment) -> bool + Send + 'static,
{
    let mut seen = 0;
    move |segment| {
        let fits = predicate(segment);
        seen += usize::from(fits);
        if fits && seen == n { verdict } else { Verdict::Pass }
    }
}

/// Loses the `n`-th segment that fits (counted from one), and no other.
///
/// `drop_nth(fin_from(Direction::ClientToServer), 1)` is "the client's FIN is lost once";
/// `drop_nth(acknowledges_fin_from(Direction::ServerToClient), 1)` is "the final acknowledgment is lost
/// once".
pub const fn drop_nth<P>(predicate: P, n: usize) -> impl FnMut(&Segment) -> Verdict + Send + 'static
where
    P: FnMut(&Segment) -> bool + Send + 'static,
{
    nth(predicate, n, Verdict::Drop)
}

/// Gives `verdict` to every segment that fits, and passes all others.
pub const fn each<P>(mut predicate: P, verdict: Verdict) -> impl FnMut(&Segment) -> Verdict + Send + 'static
where
    P: FnMut(&Segment) -> bool + Send + 'static,
{
    move |segment| {
        if predicate(segment) { verdict } else { Verdict::Pass }
    }
}

/// Both policies see every segment; the first verdict that is not [`Verdict::Pass`] counts.
pub const fn both<A, B>(mut first: A, mut second: B) -> impl FnMut(&Segment) -> Verdict + Send + 'static
where
    A: FnMut(&Segment) -> Verdict + Send + 'static,
    B: FnMut(&Segment) -> Verdict + Send + 'static,
{
    move |segment| match (first(segment), second(segment)) {
        (Verdict::Pass, verdict) | (verdict, _) => verdict,
    }
}

/// Predicate: a FIN that goes this way.
pub const fn fin_from(direction: Direction) -> impl FnMut(&Segment) -> bool + Send + 'static {
    move |segment| segment.direction == direction && segment.is_fin()
}

/// Predicate: a pure acknowledgment that covers a FIN which went `direction`, so it goes the other way
/// itself.
///
/// It remembers the FIN of every connection, also one that was lost later.
pub fn acknowledges_fin_from(direction: Direction) -> impl FnMut(&Segment) -> bool + Send + 'static {
    let mut ends: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    move |segment| {
        if segment.direction == direction {
            if segment.is_fin() {
                ends.insert((segment.source, segment.destination), segment.end());
            }
            return false;
        }
        segment.is_pure_ack()
            && ends
                .get(&(segment.destination, segment.source))
                .is_some_and(|&end| !is_after(end, segment.ack))
    }
}
