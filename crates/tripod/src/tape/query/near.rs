//! Where a row is looked for first.
//!
//! Constraints: only what is found is sped up, never changed; where the spans hold too little, the whole table is asked.
//! The server filters in frames of up to a million rows, several ahead of the one that has the answer; a span of
//! minutes keeps it from that: of 30 million rows one by its id took 60 ms (p99) in a span of an hour beside 100,000 rows/s.

use std::time::Duration;

use crate::value::{Timestamp, Uuid};

/// How far a bot's clock may stand behind itself between an attempt and its execution.
pub(super) const CLOCK_ROOM: Duration = Duration::from_mins(1);
/// How long after its id was made an execution is looked for: a transaction that has not landed within two minutes never
/// will, and a bot that was busy may record it within the hour.
const AFTER_ID: [Duration; 2] = [Duration::from_mins(2), Duration::from_hours(1)];
/// How far back a token's last executions are looked for: those of one that is traded now, and of one that was today.
const BEFORE: [Duration; 2] = [Duration::from_mins(5), Duration::from_hours(24)];

/// The spans, nanoseconds, in which the execution of an id may be, nearest first; none for an id that tells no time.
pub(super) fn after_id(id: Uuid) -> impl Iterator<Item = [i64; 2]> {
    made_at(id).into_iter().flat_map(|at| {
        let from = at.checked_sub(CLOCK_ROOM).unwrap_or(Timestamp::EPOCH).as_nanos();
        AFTER_ID.map(|life| [from, at.checked_add(life).unwrap_or(Timestamp::MAX).as_nanos()])
    })
}

/// The beginnings, nanoseconds, of the spans before `now`, nearest first. They have no end: a bot's clock may be ahead.
pub(super) fn before(now: Timestamp) -> [i64; 2] {
    BEFORE.map(|back| now.checked_sub(back).unwrap_or(Timestamp::EPOCH).as_nanos())
}

/// When an id of version 7 was made.
fn made_at(id: Uuid) -> Option<Timestamp> {
    if id.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let nanos = i64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(i64::from(nanos))?;
    Timestamp::from_nanos(nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_version_7_tells_its_time_and_no_other_does() {
        let at = made_at(Uuid::now_v7()).unwrap();
        assert!(Timestamp::now().since(at) < Duration::from_secs(60), "{at}");
        assert_eq!(made_at(Uuid::from_u128(7)), None);
        assert_eq!(made_at(Uuid::new_v4()), None);
    }

    #[test]
    fn the_spans_widen_and_hold_the_time_itself() {
        let id = Uuid::now_v7();
        let at = made_at(id).unwrap().as_nanos();
        let spans: Vec<_> = after_id(id).collect();
        assert!(spans.iter().all(|[from, until]| *from < at && at < *until), "{spans:?}");
        assert!(spans.is_sorted_by_key(|[from, until]| until - from));
        assert_eq!(after_id(Uuid::new_v4()).count(), 0);
        let [near, far] = before(Timestamp::now());
        assert!(far < near && near < Timestamp::now().as_nanos());
        assert_eq!(before(Timestamp::EPOCH), [0, 0]);
    }
}
