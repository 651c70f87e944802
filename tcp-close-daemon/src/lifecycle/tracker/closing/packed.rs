//! Sockets that close, packed one behind the other, for whoever lists a million of them.

use std::time::Duration;

use super::Closing;
use crate::{
    event::{ConnectionId, TcpState},
    lifecycle::{
        observation::packed,
        packing::{self, NEVER, NO_PAIR, Way, Writer},
    },
};

/// How many bytes of bits there are, and how many bytes in all: what is before each.
const HEAD: usize = 1 + size_of::<u16>();

/// Sockets that close, packed.
#[derive(Debug, Default)]
pub struct PackedClosings(Vec<u8>);

impl PackedClosings {
    /// Adds one, and says where it is; `None` where it has no room, which is beyond four gigabytes.
    pub fn push(&mut self, mut closing: Closing) -> Option<u32> {
        let place = u32::try_from(self.0.len()).ok()?;
        let mut writer = Writer::new(NEVER);
        // To write and to read are one: what is written is not changed.
        fields(&mut writer, &mut closing);
        let (bits, bytes) = writer.written();
        #[expect(clippy::cast_possible_truncation, reason = "a writer has no room for so many")]
        let length = bytes.len() as u16;
        self.0.push(bits);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
        Some(place)
    }

    /// The one that is at this place; `None` beyond the last.
    pub fn get(&self, place: u32) -> Option<Closing> {
        let (head, rest) = self.0.get(usize::try_from(place).ok()?..)?.split_at_checked(HEAD)?;
        let &[bits, low, high] = head else {
            return None;
        };
        let bytes = rest.get(..u16::from_le_bytes([low, high]).into())?;
        let mut closing = BLANK;
        packing::read_exact(bits, bytes, NEVER, |reader| fields(reader, &mut closing));
        Some(closing)
    }
}

fn fields(way: &mut impl Way, closing: &mut Closing) {
    way.id(&mut closing.id);
    way.pair(&mut closing.pair);
    way.state(&mut closing.state);
    way.option(&mut closing.since, NEVER, Way::time);
    way.option(&mut closing.ends, NEVER, Way::time);
    way.flag(&mut closing.observed);
    let known_by = (closing.id, closing.pair);
    packed::story_of(way, &mut closing.story, known_by, Duration::ZERO);
}

/// To be read.
const BLANK: Closing = Closing {
    id: ConnectionId { netns: 0, socket: 0 },
    pair: NO_PAIR,
    state: TcpState::TimeWait,
    since: None,
    ends: None,
    observed: false,
    story: None,
};

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;
    use crate::lifecycle::observation::packed::tests::{ID, any_story, pair, time};

    fn closing() -> impl Strategy<Value = Closing> {
        let of_story = pair().prop_flat_map(|pair| (Just(pair), option::of(any_story(pair).boxed()))).boxed();
        (of_story, select(TcpState::ALL.to_vec()), time(), time(), any::<bool>()).prop_map(
            |((pair, story), state, since, ends, observed)| Closing {
                id: ID,
                pair,
                state,
                since,
                ends,
                observed,
                story,
            },
        )
    }

    proptest! {
        #[test]
        fn each_comes_out_as_it_went_in(closing in vec(closing(), 0..5)) {
            let mut packed = PackedClosings::default();
            let places: Vec<_> = closing.iter().map(|&closing| packed.push(closing)).collect();
            let unpacked: Option<Vec<_>> = places.into_iter().map(|place| packed.get(place?)).collect();
            prop_assert_eq!(unpacked, Some(closing));
        }
    }

    #[test]
    fn beyond_the_last_there_is_none() {
        assert_eq!(PackedClosings::default().get(0), None);
        assert_eq!(PackedClosings(vec![0, 9, 0, 1]).get(0), None);
    }
}
