//! What the server is asked: everything, or what was written since.
//!
//! Constraints: the oldest transaction that may still be running is read before any row, so whatever it commits later
//! is read by the next look. A page is small enough for a call's deadline whatever one transaction wrote. An upper end
//! leaves rows out that a restore brought from a server with larger numbers; reading everything had them.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::KnownToken;
use crate::error::Error;
use crate::postgres::{Client, Failure, Unsigned};
use crate::tokens::stored::{address, unsigned};
use crate::tokens::{Address, Extension, Mint};

/// Tokens of one page: a few milliseconds each. It stands in [`CHANGED`] too, as a number: of a parameter the server could
/// not know that it is a small part of the table.
pub(super) const PAGE_TOKENS: usize = 2_000;

/// Oldest transaction that may be running, and which server this is: another start, another database or another file
/// behind the table means that numbers may have gone back.
const STATE: &str = "
SELECT pg_snapshot_xmin(pg_current_snapshot())::text,
       concat_ws(' ', pg_postmaster_start_time()::text,
                 (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()),
                 pg_relation_filenode('tripod.tokens'))";

/// What the server believes; -1 where it never looked.
const ABOUT_HOW_MANY: &str =
    "SELECT greatest(reltuples, 0)::bigint FROM pg_catalog.pg_class WHERE oid = 'tripod.tokens'::regclass";

const ALL_EXTENSIONS: &str = "
SELECT mint, number, raw, decode_error FROM tripod.token_extensions ORDER BY mint, position";

const ALL_TOKENS: &str = "
SELECT mint, program, decimals, supply, mint_authority, freeze_authority, name, symbol, slot, write_version
FROM tripod.tokens";

/// Extensions are looked up token by token (OFFSET keeps the planner from joining): a look finds a handful as a rule, and
/// a plan for a whole page would read the whole table for it.
pub(in crate::tokens) const CHANGED: &str = "
SELECT t.mint, t.program, t.decimals, t.supply, t.mint_authority, t.freeze_authority, t.name, t.symbol, t.slot,
       t.write_version, t.changed_in::text, e.number, e.raw, e.decode_error
FROM (SELECT * FROM tripod.tokens
      WHERE (changed_in, mint) > ($1::text::xid8, $2::bytea)
        AND changed_in < pg_snapshot_xmax(pg_current_snapshot())
      ORDER BY changed_in, mint LIMIT 2000) AS t
LEFT JOIN LATERAL (SELECT position, number, raw, decode_error FROM tripod.token_extensions AS x
                   WHERE x.mint = t.mint OFFSET 0) AS e ON true
ORDER BY t.changed_in, t.mint, e.position";

/// Where the next look begins, and on which server that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) oldest_running: String,
    pub(super) server: String,
}

/// The last row of a page: the next one begins behind it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    transaction: String,
    mint: Vec<u8>,
}

impl Place {
    /// Before everything that `oldest_running` or a later transaction wrote.
    pub(super) fn from(state: &State) -> Self {
        Self { transaction: state.oldest_running.clone(), mint: Vec::new() }
    }
}

pub(super) async fn state(client: &Client) -> Result<State, Failure> {
    let statement = client.prepare_cached(STATE).await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(State { oldest_running: row.try_get(0)?, server: row.try_get(1)? })
}

/// How many tokens there may be: an estimate, to make room for.
pub(super) async fn about_how_many(client: &Client) -> Result<usize, Failure> {
    let row = client.query_one(ABOUT_HOW_MANY, &[]).await?;
    Ok(usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
}

/// Hands every token to `take`, in no order, all of one moment; gives the state before that moment.
pub(super) async fn everything(client: &mut Client, mut take: impl FnMut(KnownToken) + Send) -> Result<State, Failure> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let row = transaction.query_one(STATE, &[]).await?;
    let state = State { oldest_running: row.try_get(0)?, server: row.try_get(1)? };
    let nothing: [&(dyn ToSql + Sync); 0] = [];
    let mut extensions: HashMap<Address, Vec<Extension>> = HashMap::new();
    {
        let mut rows = pin!(transaction.query_raw(ALL_EXTENSIONS, nothing).await?);
        while let Some(row) = rows.try_next().await? {
            extensions.entry(address(row.try_get(0)?)?).or_default().push(extension(&row, 1)?);
        }
    }
    {
        let mut rows = pin!(transaction.query_raw(ALL_TOKENS, nothing).await?);
        while let Some(row) = rows.try_next().await? {
            let mut token = known(&row)?;
            if let (Some(account), Some(extensions)) = (token.account.as_mut(), extensions.remove(&token.mint)) {
                account.extensions = extensions;
            }
            take(token);
        }
    }
    transaction.commit().await?;
    Ok(state)
}

/// One page of what was written from `place` on; with its end, where a further page may follow.
pub(super) async fn page(client: &Client, place: &Place) -> Result<(Vec<KnownToken>, Option<Place>), Failure> {
    let statement = client.prepare_cached(CHANGED).await?;
    let rows = client.query(&statement, &[&place.transaction, &place.mint]).await?;
    let mut tokens: Vec<KnownToken> = Vec::new();
    for row in &rows {
        let mint = address(row.try_get(0)?)?;
        if tokens.last().is_none_or(|last| last.mint != mint) {
            tokens.push(known(row)?);
        }
        if row.try_get::<_, Option<i32>>(11)?.is_some()
            && let Some(account) = tokens.last_mut().and_then(|token| token.account.as_mut())
        {
            account.extensions.push(extension(row, 11)?);
        }
    }
    let end = match rows.last() {
        Some(row) if tokens.len() >= PAGE_TOKENS => {
            Some(Place { transaction: row.try_get(10)?, mint: row.try_get(0)? })
        }
        _ => None,
    };
    Ok((tokens, end))
}

fn extension(row: &Row, first: usize) -> Result<Extension, Failure> {
    let number = unsigned("token_extensions.number", row.try_get::<_, i32>(first)?)?;
    Ok(Extension::from_store(number, row.try_get(first + 1)?, row.try_get(first + 2)?))
}

fn known(row: &Row) -> Result<KnownToken, Failure> {
    let key = |column: usize| -> Result<Option<Address>, Failure> {
        Ok(row.try_get::<_, Option<&[u8]>>(column)?.map(address).transpose()?)
    };
    let text = |column: usize| -> Result<Option<Box<str>>, Failure> {
        Ok(row.try_get::<_, Option<&str>>(column)?.map(Box::from))
    };
    let decimals = unsigned("tokens.decimals", row.try_get::<_, i16>(2)?)?;
    let account = match key(1)? {
        None => None,
        Some(program) => {
            let supply = row.try_get::<_, Option<Unsigned>>(3)?.ok_or_else(|| {
                Error::invalid("tokens.supply", "is missing beside a program; the table's own check forbids it")
            })?;
            Some(Mint {
                program,
                mint_authority: key(4)?,
                supply: supply.0,
                decimals,
                freeze_authority: key(5)?,
                extensions: Vec::new(),
            })
        }
    };
    Ok(KnownToken {
        mint: address(row.try_get(0)?)?,
        decimals,
        name: text(6)?,
        symbol: text(7)?,
        slot: unsigned("tokens.slot", row.try_get::<_, i64>(8)?)?,
        write_version: unsigned("tokens.write_version", row.try_get::<_, i64>(9)?)?,
        account,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_long_as_its_statement_says() {
        assert!(CHANGED.contains(&format!("LIMIT {PAGE_TOKENS})")));
    }
}
