//! A token as it stands in the store, read from rows of the token joined with its extensions.

use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio_postgres::Row;

use super::{Address, Extension, Mint};
use crate::error::{Error, Result};
use crate::postgres::{Failure, Unsigned};
use crate::value::Timestamp;

/// A token. As JSON: keys in base58, u64 as text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StoredToken {
    /// The mint's address.
    #[serde(serialize_with = "as_text")]
    pub mint: Address,
    /// The owning program; none while only lists know the token.
    #[serde(serialize_with = "as_text_or_null")]
    pub program: Option<Address>,
    /// Digits behind the decimal point.
    pub decimals: u8,
    /// In the smallest unit; none while only lists know the token.
    #[serde(serialize_with = "as_text_or_null")]
    pub supply: Option<u64>,
    /// Who may mint more.
    #[serde(serialize_with = "as_text_or_null")]
    pub mint_authority: Option<Address>,
    /// Who may freeze accounts.
    #[serde(serialize_with = "as_text_or_null")]
    pub freeze_authority: Option<Address>,
    /// The long name.
    pub name: Option<String>,
    /// The short name; shared by many tokens.
    pub symbol: Option<String>,
    /// Where a JSON document with more is, as the chain says.
    pub uri: Option<String>,
    /// Who said the names: `chain`, or a list.
    pub named_by: Option<String>,
    /// The slot of the observation; 0 while only lists know the token.
    #[serde(serialize_with = "as_text")]
    pub slot: u64,
    /// The order within the slot.
    #[serde(serialize_with = "as_text")]
    pub write_version: u64,
    /// Who said the rest.
    pub source: String,
    /// When it was last written, by the server's clock.
    #[serde(serialize_with = "as_text")]
    pub updated_at: Timestamp,
    /// In account order.
    pub extensions: Vec<StoredExtension>,
}

/// One extension of a stored token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StoredExtension {
    /// Its number.
    #[serde(rename = "type")]
    pub number: u16,
    /// Its official name, or `Unknown(99)`.
    pub name: String,
    /// Its fields, named as RPC nodes name them.
    pub fields: Option<Value>,
    /// Why it has no fields.
    pub decode_error: Option<String>,
    /// Its bytes.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

impl StoredToken {
    /// The mint as its account said it; none while only lists know the token.
    #[must_use]
    pub fn to_mint(&self) -> Option<Mint> {
        Some(Mint {
            program: self.program?,
            mint_authority: self.mint_authority,
            supply: self.supply?,
            decimals: self.decimals,
            freeze_authority: self.freeze_authority,
            extensions: self
                .extensions
                .iter()
                .map(|e| Extension::from_store(e.number, e.raw.clone(), e.decode_error.clone()))
                .collect(),
        })
    }

    /// From rows of [`BY_MINTS`](super::sql::BY_MINTS)' columns, grouped by mint.
    pub(super) fn from_rows(rows: &[Row]) -> Result<Vec<Self>, Failure> {
        let mut tokens: Vec<Self> = Vec::new();
        for row in rows {
            let mint = address(row.try_get(0)?)?;
            if tokens.last().is_none_or(|last| last.mint != mint) {
                tokens.push(Self::from_row(mint, row)?);
            }
            if let (Some(token), Some(number)) = (tokens.last_mut(), row.try_get::<_, Option<i32>>(14)?) {
                token.extensions.push(StoredExtension {
                    number: unsigned("token_extensions.number", number)?,
                    name: row.try_get(15)?,
                    fields: row.try_get(16)?,
                    decode_error: row.try_get(17)?,
                    raw: row.try_get(18)?,
                });
            }
        }
        Ok(tokens)
    }

    fn from_row(mint: Address, row: &Row) -> Result<Self, Failure> {
        let key = |column: usize| -> Result<Option<Address>, Failure> {
            Ok(row.try_get::<_, Option<&[u8]>>(column)?.map(address).transpose()?)
        };
        Ok(Self {
            mint,
            program: key(1)?,
            decimals: unsigned("tokens.decimals", row.try_get::<_, i16>(2)?)?,
            supply: row.try_get::<_, Option<Unsigned>>(3)?.map(|u| u.0),
            mint_authority: key(4)?,
            freeze_authority: key(5)?,
            name: row.try_get(6)?,
            symbol: row.try_get(7)?,
            uri: row.try_get(8)?,
            named_by: row.try_get(9)?,
            slot: unsigned("tokens.slot", row.try_get::<_, i64>(10)?)?,
            write_version: unsigned("tokens.write_version", row.try_get::<_, i64>(11)?)?,
            source: row.try_get(12)?,
            updated_at: crate::postgres::timestamp(row.try_get(13)?)?,
            extensions: Vec::new(),
        })
    }
}

/// 32 bytes as an address; the column's check makes anything else impossible.
pub(super) fn address(bytes: &[u8]) -> Result<Address> {
    <[u8; 32]>::try_from(bytes)
        .map(Address::new_from_array)
        .map_err(|_| Error::invalid("address in the store", format!("{} bytes, not 32", bytes.len())))
}

pub(super) fn unsigned<F: std::fmt::Display + Copy, T: TryFrom<F>>(column: &str, value: F) -> Result<T> {
    T::try_from(value).map_err(|_| Error::invalid(column, format!("{value} is out of range")))
}

pub(super) fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn as_text_or_null<S: Serializer>(value: &Option<impl ToString>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_some(&value.to_string()),
        None => serializer.serialize_none(),
    }
}
