//! The values that cross all three stores: [`Token`], [`Timestamp`], and the re-exported [`Decimal`] and [`Uuid`].
//!
//! Constraints: no float holds money, a u64 never becomes an i64, text that a server would refuse or a reader would
//! choke on never gets past the constructor. All of them are `Copy` or small, so that a hot path moves no heap.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use rust_decimal::Decimal;
pub use uuid::Uuid;

use crate::error::{Error, Result};

/// Most bytes of a token's text.
pub const TOKEN_BYTES_MAX: usize = 64;

/// What is traded: a mint in base58 or a market symbol. 1 to 64 bytes of printable ASCII without spaces, braces,
/// colons, commas, quotes, backslashes, or `=` (they mean something in Redis keys or in the line protocol).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    len: u8,
    bytes: [u8; TOKEN_BYTES_MAX],
}

impl Token {
    /// Checks and copies `text`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is empty, longer than 64 bytes, or has a character outside the set above.
    pub fn new(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("token", "is empty"));
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Error::invalid("token", format!("has {} bytes; at most {TOKEN_BYTES_MAX}", text.len())));
        }
        if let Some(bad) = text.bytes().find(|b| !b.is_ascii_graphic() || b"{}:,\"'\\=`".contains(b)) {
            return Err(Error::invalid(
                "token",
                format!("has the byte 0x{bad:02x}; letters, digits and -_./ are safe"),
            ));
        }
        let mut bytes = [0; TOKEN_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).map_err(|_| Error::invalid("token", "is too long"))?;
        Ok(Self { len, bytes })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets past `new`, so this never falls back.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The text's bytes, all of them printable ASCII; cheaper than [`Token::as_str`] on a hot path.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The text's length, and the text with zeros behind it.
    #[inline]
    pub(crate) fn padded(&self) -> (u8, &[u8; TOKEN_BYTES_MAX]) {
        (self.len, &self.bytes)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.as_str())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// Nanoseconds since the Unix epoch, UTC. The earliest is 1970-01-01, the latest 2261-12-31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01, the first instant.
    pub const EPOCH: Self = Self(0);

    /// The last instant QuestDB takes as a designated timestamp, nanoseconds.
    pub const MAX: Self = Self(9_214_646_399_999_999_999);

    /// From nanoseconds since the epoch.
    ///
    /// # Errors
    /// [`Error::Invalid`] before 1970 or after [`Timestamp::MAX`].
    pub fn from_nanos(nanos: i64) -> Result<Self> {
        if (0..=Self::MAX.0).contains(&nanos) {
            Ok(Self(nanos))
        } else {
            Err(Error::invalid("timestamp", format!("{nanos} ns is outside 1970 to 2261")))
        }
    }

    /// The clock's time now.
    #[must_use]
    pub fn now() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        Self(i64::try_from(nanos).unwrap_or(Self::MAX.0))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// This instant moved later, or `None` past [`Timestamp::MAX`].
    #[must_use]
    pub fn checked_add(self, by: Duration) -> Option<Self> {
        let nanos = i64::try_from(by.as_nanos()).ok()?;
        self.0.checked_add(nanos).filter(|n| *n <= Self::MAX.0).map(Self)
    }

    /// This instant moved earlier, or `None` before 1970.
    #[must_use]
    pub fn checked_sub(self, by: Duration) -> Option<Self> {
        let nanos = i64::try_from(by.as_nanos()).ok()?;
        self.0.checked_sub(nanos).filter(|n| *n >= 0).map(Self)
    }

    /// How long after `earlier` this is; zero where it is not after it (clocks jump back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => write!(f, "{t:.9}"),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339 (`2026-11-23T10:00:00.123456789Z`).
    fn from_str(text: &str) -> Result<Self> {
        let parsed: jiff::Timestamp =
            text.parse().map_err(|e| Error::invalid("timestamp", format!("`{text}` is not RFC 3339: {e}")))?;
        let nanos = i64::try_from(parsed.as_nanosecond())
            .map_err(|_| Error::invalid("timestamp", format!("`{text}` is outside 1970 to 2261")))?;
        Self::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_text_and_refuses_what_a_key_or_a_line_would_misread() {
        let mint = "So11111111111111111111111111111111111111112";
        assert_eq!(Token::new(mint).unwrap().as_str(), mint);
        assert_eq!(Token::new(&"a".repeat(64)).unwrap().as_str().len(), 64);
        for bad in ["", " ", "a b", "a\n", "{x}", "a:b", "a=b", "a,b", "é", "a\0", &"a".repeat(65), &"x".repeat(10_240)]
        {
            assert!(Token::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_timestamp_reads_what_it_prints_to_the_nanosecond() {
        let t = Timestamp::from_nanos(1_742_944_020_773_674_205).unwrap();
        assert_eq!(t.to_string(), "2025-03-25T23:07:00.773674205Z");
        assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        assert!(Timestamp::from_nanos(-1).is_err());
        assert!(Timestamp::from_nanos(i64::MAX).is_err());
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn time_that_runs_backwards_is_no_time_at_all() {
        let early = Timestamp::from_nanos(1_000).unwrap();
        let late = Timestamp::from_nanos(5_000).unwrap();
        assert_eq!(late.since(early), Duration::from_nanos(4_000));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
