//! The TokenMetadata extension: the only one without a fixed layout, so read here (Borsh: u32 length, then UTF-8).
//!
//! Constraints: a length that lies costs nothing (no allocation is made from it); bytes behind the last field are
//! ignored, as the official reader does.

use super::Address;
use super::text::clean_or_none;

/// What a mint says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Who may change it; none for ever after it was given up.
    pub update_authority: Option<Address>,
    /// The mint that it says it belongs to; a forger copies the rest.
    pub mint: Address,
    /// The long name, as stored.
    pub name: String,
    /// The short name, as stored.
    pub symbol: String,
    /// Where a JSON document with more is.
    pub uri: String,
    /// Further pairs.
    pub additional: Vec<(String, String)>,
}

impl Metadata {
    /// Reads the extension's value.
    ///
    /// # Errors
    /// Which field does not fit, in words.
    pub(super) fn read(raw: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { rest: raw };
        let authority = reader.address("update authority")?;
        let mut metadata = Self {
            update_authority: (authority != Address::default()).then_some(authority),
            mint: reader.address("mint")?,
            name: reader.text("name")?,
            symbol: reader.text("symbol")?,
            uri: reader.text("uri")?,
            additional: Vec::new(),
        };
        for _ in 0..reader.length("additional metadata")? {
            metadata.additional.push((reader.text("additional key")?, reader.text("additional value")?));
        }
        Ok(metadata)
    }

    /// Name, symbol and URI, fit to store.
    pub(super) fn names(&self) -> [Option<String>; 3] {
        [clean_or_none(&self.name), clean_or_none(&self.symbol), clean_or_none(&self.uri)]
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn address(&mut self, what: &str) -> Result<Address, String> {
        let (bytes, rest) = self.rest.split_first_chunk::<32>().ok_or_else(|| format!("ends inside its {what}"))?;
        self.rest = rest;
        Ok(Address::new_from_array(*bytes))
    }

    fn length(&mut self, what: &str) -> Result<u32, String> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or_else(|| format!("ends inside its {what}"))?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let length = self.length(what)?;
        let left = self.rest.len();
        let (bytes, rest) = usize::try_from(length)
            .ok()
            .and_then(|n| self.rest.split_at_checked(n))
            .ok_or_else(|| format!("its {what} says {length} bytes, {left} are left"))?;
        self.rest = rest;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("its {what} is not UTF-8"))
    }
}
