//! What the store holds and what changed in it lately, for screens.
//!
//! Constraints: bounded; the count reads an index and belongs into no loop of a second: a million tokens take some tens of
//! milliseconds of the server's time.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::Address;
use super::ask::change;
use super::store::Tokens;
use super::stored::{address, as_text};
use super::{TokenChange, ask::ANSWERS_MAX};
use crate::error::Result;
use crate::postgres::Failure;

/// Columns as of one token's changes, then whose they are.
const RECENT: &str = "
SELECT c.field, c.before, c.after, c.slot, c.source, c.changed_at, c.mint, t.symbol
FROM (SELECT * FROM tripod.token_changes ORDER BY id DESC LIMIT $1) AS c
LEFT JOIN tripod.tokens AS t USING (mint) ORDER BY c.id DESC";

/// A change and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecentChange {
    /// The mint.
    #[serde(serialize_with = "as_text")]
    pub mint: Address,
    /// Its short name, where it is known.
    pub symbol: Option<String>,
    /// What changed.
    #[serde(flatten)]
    pub change: TokenChange,
}

impl RecentChange {
    /// `decimals 6 → 9`, each value in at most `chars_max` characters; text without its quotes.
    #[must_use]
    pub fn words(&self, chars_max: usize) -> String {
        let short = |value: &Option<Value>| {
            let text = match value {
                None => "none".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            };
            match text.char_indices().nth(chars_max) {
                Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text,
            }
        };
        let TokenChange { field, before, after, .. } = &self.change;
        format!("{field} {} → {}", short(before), short(after))
    }
}

impl Tokens {
    /// The newest changes of all tokens, newest first. At most `limit`.
    ///
    /// # Errors
    /// As [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn recent_changes(&self, limit: u32) -> Result<Vec<RecentChange>> {
        let limit = i64::from(limit.min(ANSWERS_MAX));
        self.postgres()
            .call("read recent token changes", async |client| {
                let statement = client.prepare_cached(RECENT).await?;
                client.query(&statement, &[&limit]).await?.iter().map(recent).collect()
            })
            .await
    }

    /// How many tokens the store holds.
    ///
    /// # Errors
    /// As [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn count(&self) -> Result<u64> {
        self.postgres()
            .call("count tokens", async |client| {
                let statement = client.prepare_cached("SELECT count(*) FROM tripod.tokens").await?;
                let count: i64 = client.query_one(&statement, &[]).await?.try_get(0)?;
                Ok(u64::try_from(count).unwrap_or(0))
            })
            .await
    }
}

fn recent(row: &Row) -> Result<RecentChange, Failure> {
    Ok(RecentChange { mint: address(row.try_get(6)?)?, symbol: row.try_get(7)?, change: change(row)? })
}
