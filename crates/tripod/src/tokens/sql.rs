//! The store's statements, and the columns they take: one array per column, thousands of rows per statement.
//!
//! Constraints: `now()` is the transaction's start, which is how a statement knows what this very transaction made.
//! The guard compares (slot, write version) with the row that is locked at that moment, so of any number of writers
//! in any order the newest stays.

use std::collections::HashSet;

use deadpool_postgres::{Client, Transaction};
use serde_json::Value;
use tokio_postgres::Row;

use super::store::{Listing, Observation, Summary};
use super::text::normalise_symbol;
use super::{Address, Extension};
use crate::error::{Error, Result};
use crate::postgres::{Failure, Unsigned};

/// `named_by` of a name that the mint itself holds.
pub(super) const CHAIN: &str = "chain";

/// A name from the chain replaces any, and goes when the chain takes it back; a list's stays where the chain says none.
const UPSERT: &str = "
INSERT INTO tripod.tokens AS t
    (mint, program, decimals, supply, mint_authority, freeze_authority, name, symbol, symbol_normalised, uri,
     named_by, slot, write_version, source, on_chain_at, changed_in)
SELECT u.*, $14, now(), pg_current_xact_id()
FROM unnest($1::bytea[], $2::bytea[], $3::smallint[], $4::numeric[], $5::bytea[], $6::bytea[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[]) AS u
ON CONFLICT (mint) DO UPDATE SET
    program = excluded.program, decimals = excluded.decimals, supply = excluded.supply,
    mint_authority = excluded.mint_authority, freeze_authority = excluded.freeze_authority,
    name = CASE WHEN 'chain' IN (excluded.named_by, t.named_by) THEN excluded.name ELSE t.name END,
    symbol = CASE WHEN 'chain' IN (excluded.named_by, t.named_by) THEN excluded.symbol ELSE t.symbol END,
    symbol_normalised = CASE WHEN 'chain' IN (excluded.named_by, t.named_by) THEN excluded.symbol_normalised
                             ELSE t.symbol_normalised END,
    uri = CASE WHEN 'chain' IN (excluded.named_by, t.named_by) THEN excluded.uri ELSE t.uri END,
    named_by = CASE WHEN 'chain' IN (excluded.named_by, t.named_by) THEN excluded.named_by ELSE t.named_by END,
    slot = excluded.slot, write_version = excluded.write_version, source = excluded.source,
    on_chain_at = coalesce(t.on_chain_at, excluded.on_chain_at), updated_at = now(),
    changed_in = excluded.changed_in
WHERE t.program IS NULL OR (excluded.slot, excluded.write_version) > (t.slot, t.write_version)
RETURNING t.mint, t.first_seen_at = now()";

const COUNT_SAME: &str = "
SELECT count(*) FROM tripod.tokens AS t
JOIN unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS u (mint, slot, write_version)
    USING (mint, slot, write_version)";

const REMOVE_EXTENSIONS: &str = "
DELETE FROM tripod.token_extensions AS e
WHERE e.mint = ANY($1::bytea[])
  AND NOT EXISTS (SELECT FROM unnest($2::bytea[], $3::integer[], $4::smallint[]) AS u (mint, number, occurrence)
                  WHERE (u.mint, u.number, u.occurrence) = (e.mint, e.number, e.occurrence))";

const UPSERT_EXTENSIONS: &str = "
INSERT INTO tripod.token_extensions AS e (mint, number, occurrence, position, name, raw, fields, decode_error)
SELECT u.* FROM unnest($1::bytea[], $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::bytea[],
                       $7::jsonb[], $8::text[]) AS u
ON CONFLICT (mint, number, occurrence) DO UPDATE SET
    position = excluded.position, name = excluded.name, raw = excluded.raw, fields = excluded.fields,
    decode_error = excluded.decode_error
WHERE (e.position, e.name, e.raw, e.fields, e.decode_error)
      IS DISTINCT FROM (excluded.position, excluded.name, excluded.raw, excluded.fields, excluded.decode_error)";

/// The decimals and the source of a token whose account was seen are the chain's.
const UPSERT_LISTINGS: &str = "
INSERT INTO tripod.tokens AS t (mint, decimals, name, symbol, symbol_normalised, named_by, slot, write_version, source)
SELECT u.*, $6, 0, 0, $6
FROM unnest($1::bytea[], $2::smallint[], $3::text[], $4::text[], $5::text[]) AS u
ON CONFLICT (mint) DO UPDATE SET
    decimals = CASE WHEN t.program IS NULL THEN excluded.decimals ELSE t.decimals END,
    source = CASE WHEN t.program IS NULL THEN excluded.source ELSE t.source END,
    name = excluded.name, symbol = excluded.symbol, symbol_normalised = excluded.symbol_normalised,
    named_by = excluded.named_by, updated_at = now(), changed_in = pg_current_xact_id()
WHERE t.named_by IS DISTINCT FROM 'chain'
  AND ((t.name, t.symbol, t.named_by) IS DISTINCT FROM (excluded.name, excluded.symbol, excluded.named_by)
       OR (t.program IS NULL AND (t.decimals, t.source) IS DISTINCT FROM (excluded.decimals, excluded.source)))
RETURNING t.mint, t.first_seen_at = now()";

const COUNT_SAME_LISTINGS: &str = "
SELECT count(*) FROM tripod.tokens AS t
JOIN unnest($1::bytea[], $2::smallint[], $3::text[], $4::text[]) AS u (mint, decimals, name, symbol) USING (mint)
WHERE (t.decimals, t.name, t.symbol) IS NOT DISTINCT FROM (u.decimals, u.name, u.symbol)";

/// The columns that [`StoredToken::from_rows`](super::StoredToken) reads, in its order.
macro_rules! token_columns {
    ($rest:literal) => {
        concat!(
            "SELECT t.mint, t.program, t.decimals, t.supply, t.mint_authority, t.freeze_authority, t.name, t.symbol, ",
            "t.uri, t.named_by, t.slot, t.write_version, t.source, t.updated_at, ",
            "e.number, e.name, e.fields, e.decode_error, e.raw ",
            $rest
        )
    };
}

/// One statement, so that a token and its extensions are of one moment. Of an array the server cannot know how long it
/// is, and plans anew each time, which takes longer than the lookup: one mint has a statement, and a plan, of its own.
pub(super) const BY_MINT: &str = token_columns!(
    "FROM tripod.tokens AS t LEFT JOIN tripod.token_extensions AS e USING (mint)
     WHERE t.mint = $1 ORDER BY e.position"
);

/// As [`BY_MINT`].
pub(super) const BY_MINTS: &str = token_columns!(
    "FROM tripod.tokens AS t LEFT JOIN tripod.token_extensions AS e USING (mint)
     WHERE t.mint = ANY($1::bytea[]) ORDER BY t.mint, e.position"
);

pub(super) const BY_SYMBOL: &str = token_columns!(
    "FROM (SELECT * FROM tripod.tokens WHERE symbol_normalised COLLATE \"C\" = $1 ORDER BY mint LIMIT $2) AS t
     LEFT JOIN tripod.token_extensions AS e USING (mint) ORDER BY t.mint, e.position"
);

/// Observations, one array per column.
pub(super) struct ObservationColumns<'a> {
    source: &'a str,
    address: Vec<&'a Address>,
    mint: Vec<&'a [u8]>,
    program: Vec<&'a [u8]>,
    decimals: Vec<i16>,
    supply: Vec<Unsigned>,
    mint_authority: Vec<Option<&'a [u8]>>,
    freeze_authority: Vec<Option<&'a [u8]>>,
    name: Vec<Option<String>>,
    symbol: Vec<Option<String>>,
    symbol_normalised: Vec<Option<String>>,
    uri: Vec<Option<String>>,
    named_by: Vec<Option<&'static str>>,
    slot: Vec<i64>,
    write_version: Vec<i64>,
}

impl<'a> ObservationColumns<'a> {
    pub(super) fn new(batch: &[&'a Observation], source: &'a str) -> Result<Self> {
        let names: Vec<_> = batch.iter().map(|o| o.mint.metadata(&o.address).map(|m| m.names())).collect();
        let name_of = |at: usize| names.iter().map(|n| n.as_ref().and_then(|n| n[at].clone())).collect::<Vec<_>>();
        let symbol = name_of(1);
        Ok(Self {
            source,
            address: batch.iter().map(|o| &o.address).collect(),
            mint: batch.iter().map(|o| bytes(&o.address)).collect(),
            program: batch.iter().map(|o| bytes(&o.mint.program)).collect(),
            decimals: batch.iter().map(|o| i16::from(o.mint.decimals)).collect(),
            supply: batch.iter().map(|o| Unsigned(o.mint.supply)).collect(),
            mint_authority: batch.iter().map(|o| o.mint.mint_authority.as_ref().map(bytes)).collect(),
            freeze_authority: batch.iter().map(|o| o.mint.freeze_authority.as_ref().map(bytes)).collect(),
            name: name_of(0),
            symbol_normalised: symbol.iter().map(|s| s.as_deref().map(normalise_symbol)).collect(),
            symbol,
            uri: name_of(2),
            named_by: names.iter().map(|n| n.as_ref().map(|_| CHAIN)).collect(),
            slot: batch.iter().map(|o| signed("slot", o.slot)).collect::<Result<_>>()?,
            write_version: batch.iter().map(|o| signed("write version", o.write_version)).collect::<Result<_>>()?,
        })
    }

    /// Rows of (mint, is new) for those that were taken.
    pub(super) async fn upsert(&self, transaction: &Transaction<'_>) -> Result<Vec<Row>, Failure> {
        let statement = transaction.prepare_cached(UPSERT).await?;
        let rows = transaction
            .query(
                &statement,
                &[
                    &self.mint,
                    &self.program,
                    &self.decimals,
                    &self.supply,
                    &self.mint_authority,
                    &self.freeze_authority,
                    &self.name,
                    &self.symbol,
                    &self.symbol_normalised,
                    &self.uri,
                    &self.named_by,
                    &self.slot,
                    &self.write_version,
                    &self.source,
                ],
            )
            .await?;
        Ok(rows)
    }

    /// Of those that were not taken: how many are the observation that stands there, how many are older than it.
    pub(super) async fn count_untaken(
        &self,
        transaction: &Transaction<'_>,
        taken: &HashSet<Address>,
    ) -> Result<(usize, usize), Failure> {
        let left: Vec<usize> = (0..self.mint.len()).filter(|at| !taken.contains(self.address[*at])).collect();
        if left.is_empty() {
            return Ok((0, 0));
        }
        let mint: Vec<&[u8]> = left.iter().map(|at| self.mint[*at]).collect();
        let slot: Vec<i64> = left.iter().map(|at| self.slot[*at]).collect();
        let write_version: Vec<i64> = left.iter().map(|at| self.write_version[*at]).collect();
        let statement = transaction.prepare_cached(COUNT_SAME).await?;
        let same = count(&transaction.query_one(&statement, &[&mint, &slot, &write_version]).await?)?;
        Ok((same, left.len().saturating_sub(same)))
    }
}

/// The extensions of the observations that were taken, one array per column.
pub(super) struct ExtensionColumns<'a> {
    /// All mints that were taken, those without extensions too: they may have had some.
    owners: Vec<&'a [u8]>,
    mint: Vec<&'a [u8]>,
    number: Vec<i32>,
    occurrence: Vec<i16>,
    position: Vec<i16>,
    name: Vec<String>,
    raw: Vec<&'a [u8]>,
    fields: Vec<Option<Value>>,
    decode_error: Vec<Option<String>>,
}

impl<'a> ExtensionColumns<'a> {
    pub(super) fn new(batch: &[&'a Observation], taken: &HashSet<Address>) -> Result<Self> {
        let taken: Vec<&'a Observation> = batch.iter().copied().filter(|o| taken.contains(&o.address)).collect();
        let mut columns = Self {
            owners: taken.iter().map(|o| bytes(&o.address)).collect(),
            mint: Vec::new(),
            number: Vec::new(),
            occurrence: Vec::new(),
            position: Vec::new(),
            name: Vec::new(),
            raw: Vec::new(),
            fields: Vec::new(),
            decode_error: Vec::new(),
        };
        for observation in taken {
            let extensions = &observation.mint.extensions;
            for (position, extension) in extensions.iter().enumerate() {
                let number = extension.number();
                let earlier = extensions[..position].iter().filter(|e| e.number() == number).count();
                columns.push(&observation.address, extension, position, earlier)?;
            }
        }
        Ok(columns)
    }

    fn push(&mut self, mint: &'a Address, extension: &'a Extension, position: usize, occurrence: usize) -> Result<()> {
        let small = |n: usize| i16::try_from(n).map_err(|_| Error::invalid("extension", format!("is number {n}")));
        let (fields, decode_error) = match extension.fields() {
            Ok(fields) => (Some(fields), None),
            Err(why) => (None, Some(why)),
        };
        self.mint.push(bytes(mint));
        self.number.push(i32::from(extension.number()));
        self.occurrence.push(small(occurrence)?);
        self.position.push(small(position)?);
        self.name.push(extension.name());
        self.raw.push(extension.raw());
        self.fields.push(fields);
        self.decode_error.push(decode_error);
        Ok(())
    }

    /// Makes the stored sets equal to these.
    pub(super) async fn replace(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.owners.is_empty() {
            return Ok(());
        }
        let remove = transaction.prepare_cached(REMOVE_EXTENSIONS).await?;
        transaction.execute(&remove, &[&self.owners, &self.mint, &self.number, &self.occurrence]).await?;
        if self.mint.is_empty() {
            return Ok(());
        }
        let upsert = transaction.prepare_cached(UPSERT_EXTENSIONS).await?;
        transaction
            .execute(
                &upsert,
                &[
                    &self.mint,
                    &self.number,
                    &self.occurrence,
                    &self.position,
                    &self.name,
                    &self.raw,
                    &self.fields,
                    &self.decode_error,
                ],
            )
            .await?;
        Ok(())
    }
}

/// Listings, one array per column.
pub(super) struct ListingColumns<'a> {
    batch: &'a [&'a Listing],
}

impl<'a> ListingColumns<'a> {
    pub(super) fn new(batch: &'a [&'a Listing]) -> Self {
        Self { batch }
    }

    /// One transaction: upserts, then counts what stood there already.
    pub(super) async fn store(&self, client: &mut Client, list_name: &str) -> Result<Summary, Failure> {
        let transaction = client.transaction().await?;
        let statement = transaction.prepare_cached(UPSERT_LISTINGS).await?;
        let normalised: Vec<Option<String>> =
            self.batch.iter().map(|l| l.symbol.as_deref().map(normalise_symbol)).collect();
        let (mint, decimals, name, symbol) = columns(self.batch.iter().copied());
        let rows = transaction.query(&statement, &[&mint, &decimals, &name, &symbol, &normalised, &list_name]).await?;
        let mut summary = Summary::default();
        let mut taken = HashSet::new();
        for row in &rows {
            taken.insert(row.try_get::<_, &[u8]>(0)?);
            if row.try_get(1)? {
                summary.new += 1;
            } else {
                summary.changed += 1;
            }
        }
        let left: Vec<&Listing> = self.batch.iter().copied().filter(|l| !taken.contains(bytes(&l.mint))).collect();
        if !left.is_empty() {
            let statement = transaction.prepare_cached(COUNT_SAME_LISTINGS).await?;
            let (mint, decimals, name, symbol) = columns(left.iter().copied());
            summary.unchanged = count(&transaction.query_one(&statement, &[&mint, &decimals, &name, &symbol]).await?)?;
            summary.older = left.len().saturating_sub(summary.unchanged);
        }
        transaction.commit().await?;
        Ok(summary)
    }
}

type Listed<'a> = (Vec<&'a [u8]>, Vec<i16>, Vec<Option<&'a str>>, Vec<Option<&'a str>>);

fn columns<'a>(listings: impl Iterator<Item = &'a Listing> + Clone) -> Listed<'a> {
    (
        listings.clone().map(|l| bytes(&l.mint)).collect(),
        listings.clone().map(|l| i16::from(l.decimals)).collect(),
        listings.clone().map(|l| l.name.as_deref()).collect(),
        listings.map(|l| l.symbol.as_deref()).collect(),
    )
}

fn bytes(address: &Address) -> &[u8] {
    address.as_ref()
}

fn count(row: &Row) -> Result<usize, Failure> {
    let count: i64 = row.try_get(0)?;
    Ok(usize::try_from(count).map_err(|_| Error::invalid("count", format!("{count} is out of range")))?)
}

fn signed(what: &str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::invalid(what, format!("{value} is beyond {}", i64::MAX)))
}
