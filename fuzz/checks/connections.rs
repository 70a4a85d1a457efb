//! What is read along on a connection.

use tuningfork::recording::{BodyPolicy, Recording, Scrub, ScrubKey, UnixNanos};
use tuningfork::tap::{Follower, MAX_BODY, Reason, Seen, Time};
use tuningfork::units::Moment;

use super::survives_writing;

/// Between what one side says and what the other does. Then the client speaks again.
const TURN: &[u8] = b"<>";
const NOW: Time = Time { moment: Moment::from_nanos(1), unix: UnixNanos(1) };

/// The first byte says in how long pieces the talk comes, and how it ends. Then client and server take turns.
pub(super) fn tap(input: &[u8]) {
    let Some((how, talk)) = input.split_first() else { return };
    let turns = turns(talk);
    let bodies = if how % 2 == 0 { BodyPolicy::Dropped } else { BodyPolicy::Scrubbed };
    let server_closes = how & 2 == 0;
    let whole = followed(&turns, bodies, server_closes, usize::MAX);
    for length in [1, 1 + usize::from(how >> 2)] {
        let pieces = followed(&turns, bodies, server_closes, length);
        assert!(is_same(&whole, &pieces), "{whole:?}, but in pieces of {length} {pieces:?}");
    }
}

/// What each side says, the client first.
fn turns(talk: &[u8]) -> Vec<&[u8]> {
    let mut turns = Vec::new();
    let mut rest = talk;
    while let Some(at) = memchr::memmem::find(rest, TURN) {
        turns.push(&rest[..at]);
        rest = &rest[at + TURN.len()..];
    }
    turns.push(rest);
    turns
}

fn followed(turns: &[&[u8]], bodies: BodyPolicy, server_closes: bool, length: usize) -> Vec<Seen> {
    let mut follower = Follower::new(1, bodies, NOW.moment);
    let mut all = Vec::new();
    for (number, said) in turns.iter().enumerate() {
        for piece in said.chunks(length) {
            let seen = if number % 2 == 0 {
                follower.client_said(piece, NOW)
            } else {
                follower.server_said(piece, NOW.moment).into_iter().collect()
            };
            all.extend(seen);
            assert!(follower.quiet_since().is_none() || !follower.is_open());
        }
    }
    if server_closes {
        all.extend(follower.server_closed(NOW.moment));
    }
    all.extend(follower.ended());
    assert_eq!(follower.ended(), None);
    is_in_order(&all);
    all
}

/// Requests come in order, each is one that can be written, and whoever has lost the thread does not find it again.
fn is_in_order(all: &[Seen]) {
    let mut before = 0;
    for (place, seen) in all.iter().enumerate() {
        match seen {
            Seen::Request(request) => {
                let ordinal = request.ordinal.expect("a connection's requests are counted");
                assert!(ordinal > before, "{ordinal} after {before}");
                before = ordinal;
                assert!(request.body.len() <= MAX_BODY);
                let mut request = request.as_ref().clone();
                Scrub::new(ScrubKey([3; 16])).with_bodies(BodyPolicy::Scrubbed).request(&mut request);
                survives_writing(&Recording { requests: vec![request], ..Recording::default() });
            }
            Seen::Skipped(_) => {}
            Seen::Lost(_) => assert_eq!(place, all.len() - 1, "{all:?}"),
        }
    }
}

/// Whether the same was seen. An answer with more behind it is known to be whole only where it came alone.
fn is_same(whole: &[Seen], pieces: &[Seen]) -> bool {
    let with_surplus = match (whole, pieces) {
        (
            [before @ .., Seen::Lost(Reason::Answer)],
            [same @ .., Seen::Request(_) | Seen::Skipped(_), Seen::Lost(Reason::Answer)],
        ) => before == same,
        _ => false,
    };
    whole == pieces || with_surplus
}
