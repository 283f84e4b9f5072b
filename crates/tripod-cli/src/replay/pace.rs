//! How fast the rows go in.

use std::str::FromStr;
use std::time::Duration;

use tripod::Timestamp;

/// What `--rate` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// As fast as it goes.
    Max,
    /// Rows a second.
    PerSecond(u32),
    /// So many times as fast as it was recorded.
    Recorded(u32),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate; write 5000/s, 1x, 10x or max");
        if text == "max" {
            return Ok(Self::Max);
        }
        let (number, make): (&str, fn(u32) -> Self) = if let Some(number) = text.strip_suffix("/s") {
            (number, Self::PerSecond)
        } else if let Some(number) = text.strip_suffix('x') {
            (number, Self::Recorded)
        } else {
            return Err(wrong());
        };
        match number.parse() {
            Ok(0) | Err(_) => Err(wrong()),
            Ok(number) => Ok(make(number)),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::PerSecond(rows) => write!(f, "{rows}/s"),
            Self::Recorded(times) => write!(f, "{times}x"),
        }
    }
}

impl Rate {
    /// When row number `index` (from 0), recorded at `at`, is due: so long after the first row, which was recorded at
    /// `first`.
    pub(crate) fn due(self, index: u64, first: Timestamp, at: Timestamp) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::PerSecond(rows) => {
                let nanos = u128::from(index) * 1_000_000_000 / u128::from(rows);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
            Self::Recorded(times) => at.since(first) / times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_what_it_prints_and_nothing_else() {
        for text in ["max", "1x", "10x", "5000/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "0x", "0/s", "x", "/s", "5000", "1.5x", "-1x", "fast", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn rows_are_due_evenly_or_as_they_were_recorded() {
        let first = Timestamp::from_nanos(1_000).unwrap();
        let later = Timestamp::from_nanos(4_000_001_000).unwrap();
        assert_eq!(Rate::PerSecond(1000).due(2500, first, later), Duration::from_millis(2500));
        assert_eq!(Rate::Recorded(1).due(7, first, later), Duration::from_secs(4));
        assert_eq!(Rate::Recorded(4).due(7, first, later), Duration::from_secs(1));
        assert_eq!(Rate::Recorded(1).due(7, later, first), Duration::ZERO, "a row out of order is due at once");
        assert_eq!(Rate::Max.due(7, first, later), Duration::ZERO);
    }
}
