//! Which epoch it is, as far as a clock can say.
//!
//! Constraints: only a node of the cluster knows; this is an estimate for questions that nobody asks with money in hand
//! (`tripod tokens assess` without `--epoch`). A bot takes the epoch from its node.

use crate::value::Timestamp;

/// Slots of an epoch, on mainnet.
pub const SLOTS_PER_EPOCH: u64 = 432_000;

/// A slot whose time is known: mainnet on 2026-09-30.
const KNOWN_SLOT: u64 = 452_061_257;
const KNOWN_SECONDS: i64 = 1_790_726_400;
/// Slots follow each other by about this much, milliseconds.
const SLOT_MS: u64 = 400;

/// The epoch in which `slot` is.
#[must_use]
pub fn epoch_of(slot: u64) -> u64 {
    slot / SLOTS_PER_EPOCH
}

/// About which epoch mainnet is in at `time`. Slots take a little more or less than 400 ms: each percent is two epochs a
/// year away from autumn 2026.
#[must_use]
pub fn estimate_epoch(time: Timestamp) -> u64 {
    let seconds = super::scale::seconds(time).saturating_sub(KNOWN_SECONDS);
    let slots = seconds.unsigned_abs().saturating_mul(1_000) / SLOT_MS;
    epoch_of(if seconds < 0 { KNOWN_SLOT.saturating_sub(slots) } else { KNOWN_SLOT.saturating_add(slots) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_slot_is_met_and_time_goes_on() {
        let at = |text: &str| estimate_epoch(text.parse().unwrap());
        assert_eq!(at("2026-09-30T00:00:00Z"), 1_046);
        assert_eq!(at("2026-10-02T00:00:00Z"), 1_047);
        assert_eq!(at("2026-09-16T00:00:00Z"), 1_039);
        assert_eq!(estimate_epoch(Timestamp::EPOCH), 0);
    }
}
