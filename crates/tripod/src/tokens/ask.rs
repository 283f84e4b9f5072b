//! Questions that people ask of the store: what is called so, and what changed about it.
//!
//! Constraints: bounded answers. Each question has its index; a test asks the server for its plans. The names' index takes
//! pg_trgm: where the server has none, names are read one after the other ([`Tokens::names_are_indexed`] tells).

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::Address;
use super::store::Tokens;
use super::stored::{address, as_text, unsigned};
use super::text::normalise_symbol;
use crate::error::{Error, Result};
use crate::postgres::{Failure, timestamp};
use crate::value::Timestamp;

/// Answers of one question at most.
pub(super) const ANSWERS_MAX: u32 = 10_000;

/// Each part by an index of its own. Hits by name are ordered by length, which no index has: so the planner has no reason
/// to walk through all names in some order until enough fit.
pub(super) const SEARCH: &str = "
(SELECT mint, symbol, name, decimals, program IS NOT NULL, named_by, 'symbol', 0 AS rank, 0 AS distance
 FROM tripod.tokens WHERE symbol_normalised COLLATE \"C\" = $1 ORDER BY mint LIMIT $4)
UNION ALL
(SELECT mint, symbol, name, decimals, program IS NOT NULL, named_by, 'prefix', 1, char_length(symbol_normalised)
 FROM tripod.tokens
 WHERE symbol_normalised COLLATE \"C\" > $1 AND symbol_normalised COLLATE \"C\" < $2
 ORDER BY symbol_normalised COLLATE \"C\", mint LIMIT $4)
UNION ALL
(SELECT mint, symbol, name, decimals, program IS NOT NULL, named_by, 'name', 2, char_length(name)
 FROM tripod.tokens
 WHERE name IS NOT NULL AND lower(name) LIKE lower($3)
   AND (symbol_normalised IS NULL
        OR symbol_normalised COLLATE \"C\" < $1 OR symbol_normalised COLLATE \"C\" >= $2)
 ORDER BY char_length(name), mint LIMIT $4)
ORDER BY 8, 9, 1 LIMIT $4";

/// Is there an index of the names?
const NAMES_ARE_INDEXED: &str = "SELECT to_regclass('tripod.tokens_by_name') IS NOT NULL";

/// Characters of a part of a name at least: an index of three-letter pieces knows no shorter one.
const NAME_CHARS_LEAST: usize = 3;

pub(super) const CHANGES: &str = "
SELECT field, before, after, slot, source, changed_at FROM tripod.token_changes
WHERE mint = $1 ORDER BY id DESC LIMIT $2";

/// A token that is called so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hit {
    /// Its mint: the only name that is its own.
    #[serde(serialize_with = "as_text")]
    pub mint: Address,
    /// The short name.
    pub symbol: Option<String>,
    /// The long name.
    pub name: Option<String>,
    /// Digits behind the decimal point.
    pub decimals: u8,
    /// Its account was seen; false where only lists know it.
    pub on_chain: bool,
    /// Who said the names: `chain`, or a list.
    pub named_by: Option<String>,
    /// What fits: `symbol`, its beginning (`prefix`), a part of the `name`, or a [`Question`](super::Question)'s word.
    pub matched: String,
}

/// One change of a token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenChange {
    /// `decimals`, `mint_authority`, …, or `extension NAME`.
    pub field: String,
    /// What it was; none where it was not there.
    pub before: Option<Value>,
    /// What it became.
    pub after: Option<Value>,
    /// The slot of the observation that brought it; text in JSON.
    #[serde(serialize_with = "as_text")]
    pub slot: u64,
    /// Who observed it.
    pub source: String,
    /// When it was stored, by the server's clock.
    #[serde(serialize_with = "as_text")]
    pub changed_at: Timestamp,
}

impl Tokens {
    /// Tokens whose symbol is `text`, begins with it, or whose name holds it (three letters at least), in this order; of
    /// each the shorter first. At most `limit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty text; else as [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn search(&self, text: &str, limit: u32) -> Result<Vec<Hit>> {
        let (symbol, name) = (normalise_symbol(text), super::text::clean(text));
        if symbol.is_empty() {
            return Err(Error::invalid("search", "is empty"));
        }
        // Behind every text that begins with the symbol.
        let behind = format!("{symbol}\u{10ffff}");
        let part = (name.chars().count() >= NAME_CHARS_LEAST).then(|| pattern(&name));
        let limit = i64::from(limit.min(ANSWERS_MAX));
        self.postgres()
            .call("search tokens", async |client| {
                let statement = client.prepare_cached(SEARCH).await?;
                client.query(&statement, &[&symbol, &behind, &part, &limit]).await?.iter().map(hit).collect()
            })
            .await
    }

    /// Whether a part of a name is found through an index; else
    /// [`NAMES_UNINDEXED`](crate::postgres::NAMES_UNINDEXED) says what is missing.
    ///
    /// # Errors
    /// As [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn names_are_indexed(&self) -> Result<bool> {
        self.postgres()
            .call("look for the index of names", async |client| {
                let statement = client.prepare_cached(NAMES_ARE_INDEXED).await?;
                Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
            })
            .await
    }

    /// What changed about a token since it is known, the newest first. Supply is not kept. At most `limit`.
    ///
    /// # Errors
    /// As [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn changes(&self, mint: &Address, limit: u32) -> Result<Vec<TokenChange>> {
        let mint: &[u8] = mint.as_ref();
        let limit = i64::from(limit.min(ANSWERS_MAX));
        self.postgres()
            .call("read token changes", async |client| {
                let statement = client.prepare_cached(CHANGES).await?;
                client.query(&statement, &[&mint, &limit]).await?.iter().map(change).collect()
            })
            .await
    }
}

/// Anything, the text as it is, anything.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "%"
}

pub(super) fn hit(row: &Row) -> Result<Hit, Failure> {
    Ok(Hit {
        mint: address(row.try_get(0)?)?,
        symbol: row.try_get(1)?,
        name: row.try_get(2)?,
        decimals: unsigned("tokens.decimals", row.try_get::<_, i16>(3)?)?,
        on_chain: row.try_get(4)?,
        named_by: row.try_get(5)?,
        matched: row.try_get(6)?,
    })
}

pub(super) fn change(row: &Row) -> Result<TokenChange, Failure> {
    let field: String = row.try_get(0)?;
    let value = |column: usize| -> Result<Option<Value>, Failure> {
        let value = row.try_get::<_, Option<Value>>(column)?;
        Ok(if field.ends_with("authority") || field == "program" { value.map(base58) } else { value })
    };
    let (before, after) = (value(1)?, value(2)?);
    Ok(TokenChange {
        before,
        after,
        slot: unsigned("token_changes.slot", row.try_get::<_, i64>(3)?)?,
        source: row.try_get(4)?,
        changed_at: timestamp(row.try_get(5)?)?,
        field,
    })
}

/// The server keeps keys as hexadecimal text; people know them in base58.
fn base58(value: Value) -> Value {
    let key = value.as_str().filter(|hex| hex.len() == 64 && hex.is_ascii()).and_then(|hex| {
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Address::new_from_array(bytes).to_string())
    });
    key.map_or(value, Value::String)
}
