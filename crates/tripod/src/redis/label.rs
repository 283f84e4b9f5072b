//! The short names that become part of a key: topics, groups, consumers, venues, sources of prices.

use std::fmt;

use crate::error::{Error, Result};
use crate::value::{TOKEN_BYTES_MAX, Token};

/// Most bytes of a label.
pub const LABEL_BYTES_MAX: usize = TOKEN_BYTES_MAX;

/// A name with the alphabet of a [`Token`]: 1 to 64 bytes of printable ASCII without spaces, braces, colons, commas,
/// quotes, backslashes or `=`. `Copy`, so that a price carries its source without touching the heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(Token);

impl Label {
    /// Checks and copies `text`; `what` is what an error calls it (`venue`, `topic`).
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is empty, too long, or has a character outside the set above.
    pub fn new(what: &str, text: &str) -> Result<Self> {
        Token::new(text).map(Self).map_err(|error| match error {
            Error::Invalid { why, .. } => Error::invalid(what, why),
            other => other,
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The text's bytes, all of them printable ASCII; cheaper than [`Label::as_str`] on a hot path.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_label_is_named_by_what_it_was_for() {
        assert_eq!(Label::new("venue", "raydium").unwrap().as_str(), "raydium");
        let error = Label::new("venue", "a b").unwrap_err().to_string();
        assert!(error.starts_with("venue: "), "{error}");
    }
}
