//! The row that drills record: one column of every kind, each value made from the seed, so that nobody has to remember
//! a row to know what it must hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tripod::tape::Row;
use tripod::{Decimal, Timestamp, Token, Uuid};

/// Threads that record.
pub(super) const THREADS: usize = 4;
/// Rows that each of them records in a second: a bot's busy second, four times over.
pub(super) const ROWS_PER_SECOND: u32 = 5_000;
/// Between two rows of a thread, in the rows' own time.
const STEP_NANOS: u64 = 1_000_000_000 / 5_000;
/// Thread 0 records a row that QuestDB will refuse, each so many rows, where the drill wants such rows.
pub(super) const POISON_EVERY: u64 = 500;
const WORKERS: [&str; THREADS] = ["w0", "w1", "w2", "w3"];

/// A row of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Row)]
#[row(table = "rows", importance = "critical", retain_days = 2)]
pub(super) struct DrillRow<'a> {
    /// The drill's start, moved on by the row's place.
    #[row(timestamp)]
    pub(super) at: Timestamp,
    /// Half the seed, then the place.
    #[row(key)]
    pub(super) id: Uuid,
    /// Which thread recorded it.
    #[row(key, symbol)]
    pub(super) worker: &'a str,
    /// Its number within the thread.
    pub(super) number: i64,
    /// A token.
    pub(super) token: Token,
    /// An amount over the whole range of u64.
    pub(super) amount: u64,
    /// A price with up to eighteen digits after the point.
    #[row(decimal = "38,18")]
    pub(super) price: Decimal,
    /// A float.
    pub(super) ratio: f64,
    /// A flag.
    pub(super) flag: bool,
    /// Sometimes absent.
    pub(super) seen_at: Option<Timestamp>,
    /// Text with what a protocol may trip over; sometimes absent.
    #[row(text = 64)]
    pub(super) note: Option<&'a str>,
}

/// A row's place: thread and number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Place {
    pub(super) thread: usize,
    pub(super) number: u64,
}

/// Makes each row from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) seed: u64,
    /// The time of the first row, nanoseconds.
    pub(super) base: i64,
    /// Whether some rows are such as QuestDB's (narrower) table refuses.
    pub(super) poison: bool,
}

const NOTES: [Option<&str>; 4] = [None, Some("a b,c=d\"e\\f"), Some("'é🦀' null"), Some("line\nline\t2")];
const TOKENS: [&str; 3] = ["So11111111111111111111111111111111111111112", "SOL-USDC", "BONK"];

impl Recipe {
    /// Whether QuestDB must refuse the row.
    pub(super) fn is_poison(self, place: Place) -> bool {
        self.poison && place.thread == 0 && place.number % POISON_EVERY == POISON_EVERY / 2
    }

    /// The row's own time.
    pub(super) fn at(self, place: Place) -> tripod::Result<Timestamp> {
        // Within a step the threads differ by their number, so that no two rows share a nanosecond.
        let thread = u64::try_from(place.thread).unwrap_or(u64::MAX);
        let nanos = place.number.saturating_mul(STEP_NANOS).saturating_add(thread);
        Timestamp::from_nanos(self.base.saturating_add(i64::try_from(nanos).unwrap_or(i64::MAX)))
    }

    pub(super) fn row(self, place: Place) -> tripod::Result<DrillRow<'static>> {
        let thread = u64::try_from(place.thread).unwrap_or(u64::MAX);
        let mut dice = Dice::new(self.seed ^ place.number.rotate_left(2) ^ thread);
        let at = self.at(place)?;
        let note = pick(&mut dice, &NOTES).flatten();
        // Two digits after the point fit everywhere; the poisoned one fits only the column as it should be.
        let price = match self.is_poison(place) {
            true => Decimal::new(1_234_567_891, 4),
            false => Decimal::new(i64::try_from(dice.next() % 999_999).unwrap_or(0), 2),
        };
        Ok(DrillRow {
            at,
            id: self.id(place),
            worker: WORKERS.get(place.thread).copied().unwrap_or("w?"),
            number: i64::try_from(place.number).unwrap_or(i64::MAX),
            token: Token::new(pick(&mut dice, &TOKENS).unwrap_or("SOL"))?,
            amount: dice.next(),
            price,
            // 32 bits are exact in a float.
            ratio: f64::from(u32::try_from(dice.next() >> 32).unwrap_or(0)) / 7.0,
            flag: dice.next().is_multiple_of(2),
            seen_at: dice
                .next()
                .is_multiple_of(3)
                .then(|| at.checked_add(Duration::from_nanos(dice.next() % 999)))
                .flatten(),
            note,
        })
    }

    fn id(self, place: Place) -> Uuid {
        let thread = u128::try_from(place.thread).unwrap_or(u128::MAX);
        Uuid::from_u128(u128::from(self.seed) << 64 | thread << 48 | u128::from(place.number))
    }

    /// The place of a row of this recipe; none where the id is of something else.
    pub(super) fn place_of(self, id: &str) -> Option<Place> {
        let id = id.parse::<Uuid>().ok()?.as_u128();
        let thread = usize::try_from(id >> 48 & 0xffff).ok().filter(|thread| *thread < THREADS)?;
        let place = Place { thread, number: u64::try_from(id & 0xffff_ffff_ffff).ok()? };
        (self.id(place).as_u128() == id).then_some(place)
    }
}

/// What a SELECT asks for, in the order of [`holds`].
pub(super) const SELECTED: &str =
    "id, at::long, worker, number, token, amount, price, ratio, flag, seen_at::long, note";

/// Whether QuestDB's answer to [`SELECTED`] is this row, to the last digit.
pub(super) fn holds(row: &DrillRow<'_>, cells: &[Value]) -> bool {
    let [_, at, worker, number, token, amount, price, ratio, flag, seen_at, note] = cells else { return false };
    let decimal = |value: &Value| value.as_str()?.parse::<Decimal>().ok();
    at.as_i64() == Some(row.at.as_nanos())
        && worker.as_str() == Some(row.worker)
        && number.as_i64() == Some(row.number)
        && token.as_str() == Some(row.token.as_str())
        && amount.as_str() == Some(&*row.amount.to_string())
        && decimal(price) == Some(row.price)
        && ratio.as_f64().map(f64::to_bits) == Some(row.ratio.to_bits())
        && flag.as_bool() == Some(row.flag)
        && seen_at.as_i64() == row.seen_at.map(Timestamp::as_nanos)
        && note.as_str() == row.note
}

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> Option<T> {
    let index = usize::try_from(dice.next()).unwrap_or(0).checked_rem(from.len())?;
    from.get(index).copied()
}

/// Numbers that look random and are the same for the same start (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(start: u64) -> Self {
        Self(start)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A time between the two.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_micros(self.next() % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_place_is_read_back_from_its_id_and_a_foreign_id_is_nobodys() {
        let recipe = Recipe { seed: 7, base: 0, poison: false };
        let place = Place { thread: 3, number: 123_456_789 };
        let id = recipe.row(place).unwrap().id.to_string();
        assert_eq!(recipe.place_of(&id), Some(place));
        assert_eq!(Recipe { seed: 8, ..recipe }.place_of(&id), None);
        assert_eq!(recipe.place_of("what"), None);
        assert_eq!(recipe.place_of(&Uuid::from_u128(7 << 64 | 4 << 48).to_string()), None, "there is no thread 4");
    }

    #[test]
    fn no_two_rows_share_an_instant_and_the_same_seed_makes_the_same_row() {
        let recipe = Recipe { seed: 1, base: 1_000, poison: false };
        let places = (0..THREADS).flat_map(|thread| (0..500).map(move |number| Place { thread, number }));
        let instants: BTreeSet<_> = places.clone().map(|place| recipe.at(place).unwrap()).collect();
        assert_eq!(instants.len(), 500 * THREADS);
        for place in places {
            assert_eq!(recipe.row(place).unwrap(), recipe.row(place).unwrap());
            tripod::tape::encode::measure(&recipe.row(place).unwrap()).unwrap();
        }
    }
}
