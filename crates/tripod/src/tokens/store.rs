//! Tokens in PostgreSQL.
//!
//! Constraints: one transaction replaces a token and its whole extension set; an observation that is not newer changes
//! nothing and is counted; writers lock mints in one order (sorted), so that they wait for each other and never
//! deadlock. Every write can be repeated: the second time finds nothing to do.
//!
//! ```text
//! observations ─▶ newest per mint, sorted ─▶ batches of 1,000 ─┬▶ upsert tokens where newer ─▶ mints that were taken
//!                                          (some at a time)    └▶ replace the extensions of those, same transaction
//! ```

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;

use deadpool_postgres::Transaction;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::sql;
use super::stored::{self, StoredToken};
use super::text::normalise_symbol;
use super::{Address, Mint};
use crate::error::{Error, Result};
use crate::postgres::{Failure, Postgres};

/// Rows of one statement: larger ones are no faster, hold their locks for longer, and must end within one call's deadline.
const BATCH_ROWS: usize = 1_000;
/// Batches on their way at once: the server works on one while another is encoded. No two have a mint in common. More: a
/// core each is busy, and connections of the pool that others wait for.
const BATCHES_AT_ONCE: usize = 3;
/// Mints of one question at most.
const MINTS_MAX: usize = 10_000;
/// Answers to a question by symbol at most; the most shared symbol of the public list has 19.
const SYMBOL_ANSWERS_MAX: i64 = 1_000;

/// A mint as the chain had it at some point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The account's address.
    pub address: Address,
    /// What it held.
    pub mint: Mint,
    /// The slot at which it did.
    pub slot: u64,
    /// The order of writes within a slot, where the source has it; else 0.
    pub write_version: u64,
}

/// A token as a list has it: no slot, no authority, no supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The mint's address.
    pub mint: Address,
    /// Digits behind the decimal point, as the list says.
    pub decimals: u8,
    /// The long name.
    pub name: Option<String>,
    /// The short name.
    pub symbol: Option<String>,
}

/// What became of what was handed over; each is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// The mint was not known.
    pub new: usize,
    /// Written over something older.
    pub changed: usize,
    /// Stood there already.
    pub unchanged: usize,
    /// What stands there is newer, or (for a list) comes from the chain.
    pub older: usize,
    /// The same mint came more than once in one call; the newest was taken.
    pub repeated: usize,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.older += other.older;
        self.repeated += other.repeated;
    }
}

/// The store; a cheap handle.
#[derive(Debug, Clone)]
pub struct Tokens {
    postgres: Postgres,
}

impl Tokens {
    /// A handle on the tokens behind `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    pub(super) fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Stores what was seen on the chain. When it returns Ok, each mint holds this observation or a newer one, with
    /// the extensions of the same moment. `source` says where it was seen: `rpc`, `geyser`, a file's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a slot or write version is beyond i64; else as [`Postgres::call`]. Batches of 1,000 are
    /// committed each by itself, some at a time: after an error some are stored, and the call can be repeated.
    pub async fn store(&self, observations: &[Observation], source: &str) -> Result<Summary> {
        let mut newest: BTreeMap<Address, &Observation> = BTreeMap::new();
        for seen in observations {
            let kept = newest.entry(seen.address).or_insert(seen);
            if (seen.slot, seen.write_version) > (kept.slot, kept.write_version) {
                *kept = seen;
            }
        }
        let mut summary = Summary { repeated: observations.len() - newest.len(), ..Summary::default() };
        let sorted: Vec<&Observation> = newest.into_values().collect();
        let batches: Vec<_> = sorted.chunks(BATCH_ROWS).map(|batch| self.store_some(batch, source)).collect();
        let mut stored = pin!(stream::iter(batches).buffer_unordered(self.batches_at_once()));
        while let Some(done) = stored.try_next().await? {
            summary += done;
        }
        Ok(summary)
    }

    /// A part of the pool: others have calls to make, too.
    fn batches_at_once(&self) -> usize {
        (self.postgres.connections_max() / 2).clamp(1, BATCHES_AT_ONCE)
    }

    async fn store_some(&self, batch: &[&Observation], source: &str) -> Result<Summary> {
        let rows = sql::ObservationColumns::new(batch, source)?;
        self.postgres
            .call("store tokens", async |client| {
                let transaction = client.transaction().await?;
                let (summary, taken) = store_batch(&transaction, &rows).await?;
                sql::ExtensionColumns::new(batch, &taken)?.replace(&transaction).await?;
                transaction.commit().await?;
                Ok(summary)
            })
            .await
    }

    /// Stores what a list says. It names tokens that the chain did not name, and makes known those that were never
    /// seen there; what the chain said stays. `list_name` is kept as who said it.
    ///
    /// # Errors
    /// As [`Postgres::call`]. Batches of 1,000 are committed one by one: after an error the first ones are stored.
    pub async fn store_listings(&self, listings: &[Listing], list_name: &str) -> Result<Summary> {
        if list_name.is_empty() || list_name == sql::CHAIN {
            return Err(Error::invalid("list name", "must not be empty or `chain`; `list:solana` is usual"));
        }
        let newest: BTreeMap<Address, &Listing> = listings.iter().map(|l| (l.mint, l)).collect();
        let mut summary = Summary { repeated: listings.len() - newest.len(), ..Summary::default() };
        let sorted: Vec<&Listing> = newest.into_values().collect();
        for batch in sorted.chunks(BATCH_ROWS) {
            let rows = sql::ListingColumns::new(batch);
            let done =
                self.postgres.call("store a token list", async |client| rows.store(client, list_name).await).await?;
            summary += done;
        }
        Ok(summary)
    }

    /// One token with its extensions, of one moment.
    ///
    /// # Errors
    /// As [`Postgres::call`].
    pub async fn get(&self, mint: &Address) -> Result<Option<StoredToken>> {
        let mint: &[u8] = mint.as_ref();
        self.postgres
            .call("read token", async |client| {
                let statement = client.prepare_cached(sql::BY_MINT).await?;
                Ok(StoredToken::from_rows(&client.query(&statement, &[&mint]).await?)?.pop())
            })
            .await
    }

    /// Those of `mints` that are known, sorted by mint, all of one moment.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than 10,000 mints; else as [`Postgres::call`].
    pub async fn get_many(&self, mints: &[Address]) -> Result<Vec<StoredToken>> {
        if mints.len() > MINTS_MAX {
            return Err(Error::invalid("mints", format!("{} in one call; at most {MINTS_MAX}", mints.len())));
        }
        let mints: Vec<&[u8]> = mints.iter().map(Address::as_ref).collect();
        self.postgres
            .call("read tokens", async |client| {
                let statement = client.prepare_cached(sql::BY_MINTS).await?;
                StoredToken::from_rows(&client.query(&statement, &[&mints]).await?)
            })
            .await
    }

    /// All tokens of a symbol, whatever its case; symbols are shared, so never trade on one. At most 1,000.
    ///
    /// # Errors
    /// As [`Postgres::call`].
    pub async fn by_symbol(&self, symbol: &str) -> Result<Vec<StoredToken>> {
        let symbol = normalise_symbol(symbol);
        self.postgres
            .call("read tokens by symbol", async |client| {
                let statement = client.prepare_cached(sql::BY_SYMBOL).await?;
                StoredToken::from_rows(&client.query(&statement, &[&symbol, &SYMBOL_ANSWERS_MAX]).await?)
            })
            .await
    }
}

/// Upserts one batch and tells which mints were taken.
async fn store_batch(
    transaction: &Transaction<'_>,
    rows: &sql::ObservationColumns<'_>,
) -> Result<(Summary, HashSet<Address>), Failure> {
    let mut summary = Summary::default();
    let mut taken = HashSet::new();
    for row in rows.upsert(transaction).await? {
        if row.try_get(1)? {
            summary.new += 1;
        } else {
            summary.changed += 1;
        }
        taken.insert(stored::address(row.try_get(0)?)?);
    }
    (summary.unchanged, summary.older) = rows.count_untaken(transaction, &taken).await?;
    Ok((summary, taken))
}
