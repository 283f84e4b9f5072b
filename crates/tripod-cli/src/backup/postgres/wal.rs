//! Places in the write-ahead log, and the names of its files. No server, no disk.
//!
//! ```text
//! 00000002 0000000A 000000FE              timeline, upper half of the place, number of the file within that
//! 00000002.history                        where timeline 2 came from: a line for each ancestor, with the place of the fork
//! …00FE.partial                           the old timeline's last file, as far as it was filled at the fork
//! …00FE.000028F0.backup                   a note about a base backup that began there
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// The smallest and the greatest length of a file of the log.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;
/// Digits of each of the three parts of a name.
const DIGITS: usize = 8;

/// A place in the log: bytes since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl FromStr for Lsn {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let halves = text.split_once('/').and_then(|(upper, lower)| {
            let half = |text: &str| u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
            Some((u64::from(half(upper)?) << 32) | u64::from(half(lower)?))
        });
        halves.map(Self).with_context(|| format!("`{text}` is no place in a write-ahead log"))
    }
}

impl TryFrom<String> for Lsn {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

/// How long the files of a log are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentSize(u64);

impl SegmentSize {
    pub(crate) fn new(bytes: u64) -> anyhow::Result<Self> {
        if !bytes.is_power_of_two() || !SEGMENT_BYTES.contains(&bytes) {
            bail!("a file of the write-ahead log is {bytes} bytes long, which no server makes");
        }
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }

    /// The number of the file that holds what begins at `lsn`.
    pub(crate) fn number(self, lsn: Lsn) -> u64 {
        lsn.0 / self.0
    }

    /// The number of the file that holds what ends at `lsn`.
    pub(crate) fn number_before(self, lsn: Lsn) -> u64 {
        lsn.0.saturating_sub(1) / self.0
    }

    pub(crate) fn begin(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.0))
    }

    pub(crate) fn name(self, timeline: u32, number: u64) -> String {
        let each = (1 << 32) / self.0;
        format!("{timeline:08X}{:08X}{:08X}", number / each, number % each)
    }

    /// Timeline and number of a file by its name; none for any other name.
    pub(crate) fn parse(self, name: &str) -> Option<(u32, u64)> {
        if !is_segment(name) {
            return None;
        }
        let part = |number: usize| u32::from_str_radix(name.get(number * DIGITS..(number + 1) * DIGITS)?, 16).ok();
        let each = (1 << 32) / self.0;
        let low = u64::from(part(2)?);
        (low < each).then_some((part(0)?, u64::from(part(1)?) * each + low))
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
}

/// Whether this is the name of a whole file of the log.
pub(crate) fn is_segment(name: &str) -> bool {
    name.len() == 3 * DIGITS && is_hex(name)
}

/// The timeline whose history this is.
pub(crate) fn history_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".history").filter(|digits| digits.len() == DIGITS && is_hex(digits))?;
    u32::from_str_radix(digits, 16).ok()
}

/// Where a file lies in the log, whatever its timeline: of a whole one, of a `.partial`, of a `.backup`. Names of one log
/// compare as the places do.
pub(crate) fn place_in(name: &str) -> Option<&str> {
    let (segment, end) = name.split_at_checked(3 * DIGITS)?;
    let known = end.is_empty() || end == ".partial" || (end.starts_with('.') && end.ends_with(".backup"));
    (is_segment(segment) && known).then(|| &segment[DIGITS..])
}

/// A timeline's ancestors, the oldest first, each with the place where it was left.
pub(crate) type Ancestors = Vec<(u32, Lsn)>;

/// Reads the content of a history file.
pub(crate) fn ancestors(text: &str) -> anyhow::Result<Ancestors> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|field| field.parse().ok());
            let timeline = timeline.with_context(|| format!("a timeline's history has the line `{line}`"))?;
            Ok((timeline, fields.next().unwrap_or_default().parse()?))
        })
        .collect()
}

/// A timeline with all that lies before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Each with the place where it begins and, but for the last, where it was left.
    parts: Vec<(u32, Lsn, Option<Lsn>)>,
}

impl Chain {
    pub(crate) fn new(timeline: u32, ancestors: &[(u32, Lsn)]) -> Self {
        let mut begin = Lsn(0);
        let mut parts = Vec::new();
        for (ancestor, left) in ancestors {
            parts.push((*ancestor, begin, Some(*left)));
            begin = *left;
        }
        parts.push((timeline, begin, None));
        Self { parts }
    }

    /// The last one.
    pub(crate) fn timeline(&self) -> u32 {
        self.parts.last().map_or(0, |(timeline, ..)| *timeline)
    }

    /// Whether it goes through `timeline` as far as `lsn`.
    pub(crate) fn passes(&self, timeline: u32, lsn: Lsn) -> bool {
        self.parts.iter().any(|(part, _, left)| *part == timeline && left.is_none_or(|left| left >= lsn))
    }

    /// The names that the file with this number may have, the one that is looked for first in front.
    fn names(&self, number: u64, size: SegmentSize) -> Vec<String> {
        let holds = |(_, begin, left): &&(u32, Lsn, Option<Lsn>)| {
            size.number(*begin) <= number && left.is_none_or(|left| number <= size.number_before(left))
        };
        self.parts.iter().filter(holds).map(|(timeline, ..)| size.name(*timeline, number)).rev().collect()
    }

    /// Which of `names` is the file with this number.
    pub(crate) fn name_in(&self, names: &BTreeSet<String>, number: u64, size: SegmentSize) -> Option<String> {
        self.names(number, size).into_iter().find(|name| names.contains(name))
    }

    /// What of this log is in `names`, from the file with the number `first` on.
    pub(crate) fn stretch(&self, names: &BTreeSet<String>, first: u64, size: SegmentSize) -> Stretch {
        let there = |number: u64| self.name_in(names, number, size);
        let numbers: BTreeSet<u64> = names
            .iter()
            .filter_map(|name| size.parse(name))
            .map(|(_, number)| number)
            .filter(|n| *n >= first)
            .collect();
        let last = numbers.into_iter().rev().find(|number| there(*number).is_some());
        let missing = match last {
            None => Some(first),
            Some(last) => (first..=last).find(|number| there(*number).is_none()),
        };
        Stretch {
            last,
            last_name: last.and_then(there),
            missing: missing.map(|number| {
                let name = self.names(number, size).into_iter().next();
                (number, name.unwrap_or_else(|| size.name(self.timeline(), number)))
            }),
        }
    }
}

/// What there is of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The number of the last file that is there.
    pub(crate) last: Option<u64>,
    /// Its name.
    pub(crate) last_name: Option<String>,
    /// The first one that is not, though later ones are; the first of all where none is there.
    pub(crate) missing: Option<(u64, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize(1 << 20);

    #[test]
    fn places_and_names_are_read_as_they_are_written() {
        for (text, bytes) in [("0/0", 0), ("0/3000028", 0x300_0028), ("A/FF", 0xA_0000_00FF)] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(bytes));
            assert_eq!(Lsn(bytes).to_string(), text);
        }
        for bad in ["", "0", "/", "0/x", "0/1/2", "0/123456789", "+1/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?}");
        }
        // 4096 files of 1 MiB in each upper half, 256 of 16 MiB.
        let sixteen = SegmentSize::new(16 << 20).unwrap();
        for (size, number, name) in [
            (SIZE, 0x1003, "000000020000000100000003"),
            (sixteen, 0x103, "000000020000000100000003"),
            (SIZE, 0xFFF, "000000020000000000000FFF"),
        ] {
            assert_eq!(size.name(2, number), name);
            assert_eq!(size.parse(name), Some((2, number)));
        }
        assert_eq!(sixteen.parse("000000010000000000000FFF"), None, "no file of 16 MiB has that name");
        for bad in ["", "00000001000000000000000", "00000001000000000000000a", "000000010000000000000001.partial"] {
            assert_eq!(SIZE.parse(bad), None, "{bad}");
        }
        assert!(
            SegmentSize::new(0).is_err() && SegmentSize::new(3 << 20).is_err() && SegmentSize::new(1 << 31).is_err()
        );
    }

    #[test]
    fn what_ends_at_a_border_belongs_to_the_file_before_it() {
        assert_eq!((SIZE.number(Lsn(2 << 20)), SIZE.number_before(Lsn(2 << 20))), (2, 1));
        assert_eq!((SIZE.number(Lsn((2 << 20) + 1)), SIZE.number_before(Lsn((2 << 20) + 1))), (2, 2));
        assert_eq!(SIZE.begin(2), Lsn(2 << 20));
    }

    #[test]
    fn the_place_of_every_kind_of_file_is_known_and_a_history_has_none() {
        let place = Some("00000001000000FE");
        assert_eq!(place_in("0000000200000001000000FE"), place);
        assert_eq!(place_in("0000000300000001000000FE.partial"), place);
        assert_eq!(place_in("0000000100000001000000FE.000028F0.backup"), place);
        for other in ["00000002.history", ".0000000200000001000000FE.new", "0000000200000001000000FE.gz", "x", "é"] {
            assert_eq!(place_in(other), None, "{other}");
        }
        assert_eq!(history_of("0000000A.history"), Some(10));
        assert_eq!(history_of("A.history"), None);
    }

    fn names(names: &[(u32, u64)]) -> BTreeSet<String> {
        names.iter().map(|(timeline, number)| SIZE.name(*timeline, *number)).collect()
    }

    #[test]
    fn a_gap_is_found_also_across_timelines() {
        let history = "1\t0/500000\tat restore point \"x\"\n\n2\t0/780000\tbefore 2026-11-23 10:00:00+00\n";
        let ancestors = ancestors(history).unwrap();
        assert_eq!(ancestors, [(1, Lsn(0x50_0000)), (2, Lsn(0x78_0000))]);
        let chain = Chain::new(3, &ancestors);
        // The first fork is at the beginning of the fifth file, the second within the seventh.
        let all = names(&[(1, 3), (1, 4), (2, 5), (2, 6), (3, 7), (3, 8)]);
        let whole = chain.stretch(&all, 3, SIZE);
        assert_eq!((whole.last, whole.missing), (Some(8), None));
        let gap = chain.stretch(&names(&[(1, 3), (1, 4), (1, 5), (2, 6), (3, 7), (3, 8)]), 3, SIZE);
        assert_eq!(gap.missing, Some((5, SIZE.name(2, 5))), "the first timeline's fifth was given up");
        let early = chain.stretch(&names(&[(1, 3), (1, 4), (2, 5), (2, 6)]), 3, SIZE);
        assert_eq!((early.last, early.last_name, early.missing), (Some(6), Some(SIZE.name(2, 6)), None));
        assert_eq!(chain.stretch(&names(&[]), 3, SIZE).missing, Some((3, SIZE.name(1, 3))));
        assert_eq!(chain.stretch(&names(&[(1, 1)]), 3, SIZE).missing, Some((3, SIZE.name(1, 3))));
    }

    #[test]
    fn a_timeline_passes_only_what_lies_before_its_fork() {
        let chain = Chain::new(3, &[(1, Lsn(100)), (2, Lsn(200))]);
        assert!(chain.passes(1, Lsn(100)) && !chain.passes(1, Lsn(101)));
        assert!(chain.passes(2, Lsn(200)) && chain.passes(3, Lsn(u64::MAX)) && !chain.passes(4, Lsn(0)));
    }
}
