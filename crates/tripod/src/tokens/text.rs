//! Text from the chain or from a list, made fit to store and to search.
//!
//! Constraints: PostgreSQL refuses U+0000 in text and in jsonb, and on-chain names are often padded with it; a symbol
//! may be kilobytes long, an index entry may not.

/// Characters of a normalised symbol at most; the column's check says the same.
const NORMALISED_CHARS_MAX: usize = 64;

/// Without the padding at its ends, and U+FFFD for each U+0000 within.
pub(super) fn clean(text: &str) -> String {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).replace('\0', "\u{fffd}")
}

/// [`clean`], and none where nothing is left.
pub(super) fn clean_or_none(text: &str) -> Option<String> {
    Some(clean(text)).filter(|t| !t.is_empty())
}

/// What symbols are compared by: trimmed, a leading `$` dropped, lower case, cut.
pub(super) fn normalise_symbol(symbol: &str) -> String {
    let clean = clean(symbol);
    let bare = clean.strip_prefix('$').filter(|rest| !rest.is_empty()).unwrap_or(&clean);
    bare.to_lowercase().chars().take(NORMALISED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_goes_and_what_a_server_refuses_is_replaced() {
        assert_eq!(clean("  USD Coin\0\0\0"), "USD Coin");
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert_eq!(clean_or_none("\0\0 "), None);
    }

    #[test]
    fn a_symbol_is_found_however_it_is_written_and_always_fits_an_index() {
        assert_eq!(normalise_symbol(" $WIF "), "wif");
        assert_eq!(normalise_symbol("$"), "$");
        assert_eq!(normalise_symbol("ÉTÉ"), "été");
        assert_eq!(normalise_symbol(&"İ".repeat(9_000)).chars().count(), 64);
    }
}
