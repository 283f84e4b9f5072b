//! What files hold: the public token list (the solana-labs JSON format), Jupiter's CSV, and account dumps as RPC nodes
//! answer them.
//!
//! Constraints: a file may be larger than memory, so it is read once, front to back; of it, one entry, the batches on
//! their way and (of a list) the mints that were named already are held. One bad entry never costs the others: it is
//! refused with its place and the reason. A file that ends in the middle, or stops being what it was, is torn: what came
//! before is stored and counted, and the report says where. Only one chain is taken (the public list mixes mainnet,
//! testnet and devnet). Importing is idempotent: what was cut short is simply run again.
//!
//! ```text
//! file ─▶ open(): JSON or a CSV header ─▶ reader thread ── batches, at most 3 waiting ──▶ import() ─▶ store ─▶ Report
//! ```

mod account;
mod collect;
mod json;
mod jupiter;
mod list;

use std::io::{BufRead, BufReader, Read};

use tokio::sync::mpsc;

use super::Address;
use super::store::{Summary, Tokens};
use crate::error::{Error, Result};
use collect::{Batch, Collector};

pub use account::from_base64;
pub(super) use account::observation;
pub use list::{List, import_list, read_list};

/// The list's number for Solana's mainnet.
pub const MAINNET: u64 = 101;

/// Bytes of one entry at most: the largest account that Solana allows is 14 MB in base64.
pub const ENTRY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Refused entries that a report lists; those beyond are counted.
pub const REFUSED_LISTED_MAX: usize = 10_000;
/// Batches that wait for the store while the file is read on. More costs memory (a batch is 5,000 entries or 16 MiB),
/// fewer lets one wait for the other.
const BATCHES_WAITING_MAX: usize = 2;

/// An entry that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// Its place: entries count from 0, lines of a CSV from 1.
    pub place: usize,
    /// Its address or symbol, where it has one.
    pub entry: String,
    /// The reason.
    pub why: String,
}

/// What a file turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub enum Kind {
    /// Accounts as RPC nodes give them.
    #[default]
    #[serde(rename = "accounts")]
    Accounts,
    /// The solana-labs format.
    #[serde(rename = "token list")]
    TokenList,
    /// Jupiter's CSV.
    #[serde(rename = "jupiter csv")]
    JupiterCsv,
}

impl Kind {
    /// In words, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::TokenList => "token list",
            Self::JupiterCsv => "jupiter csv",
        }
    }
}

/// What an import did. Each entry is in exactly one of the counts, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What the file holds.
    pub kind: Kind,
    /// Counts of the entries that reached the store.
    #[serde(flatten)]
    pub stored: Summary,
    /// Entries of other chains.
    pub other_chains: usize,
    /// Accounts that hold somebody's balance, not a mint; a dump of a whole program is full of them.
    pub token_accounts: usize,
    /// Of the mints that were taken: how many came without a slot, and have the one of the options.
    pub without_slot: usize,
    /// Entries that were not taken, each with the reason; the first 10,000.
    pub refused: Vec<Refused>,
    /// How many more were refused.
    pub refused_beyond: usize,
    /// Why the file could not be read to its end; none where it was. All that came before is in the counts.
    pub torn: Option<String>,
}

impl Report {
    /// Entries of all counts.
    #[must_use]
    pub fn entries(&self) -> usize {
        let s = &self.stored;
        let taken = s.new + s.changed + s.unchanged + s.older + s.repeated;
        taken + self.other_chains + self.token_accounts + self.refused.len() + self.refused_beyond
    }

    fn refuse(&mut self, place: usize, entry: String, why: String) {
        if self.refused.len() < REFUSED_LISTED_MAX {
            self.refused.push(Refused { place, entry, why });
        } else {
            self.refused_beyond += 1;
        }
    }
}

/// What a file does not say itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Who says it, kept beside the tokens: `list:solana`, `file:dump`.
    pub source: String,
    /// The list's number of the chain to take.
    pub chain: u64,
    /// The slot of accounts that come without one. 0: older than any that has one.
    pub slot: u64,
    /// The address of an only account that comes without one.
    pub address: Option<Address>,
}

impl Options {
    /// Mainnet, from `source`; no slot and no address beside the file's own.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), chain: MAINNET, slot: 0, address: None }
    }
}

/// A file that was opened, of a format that is known.
pub struct Source {
    reader: Box<dyn BufRead + Send>,
    format: Format,
}

enum Format {
    Json,
    Csv(jupiter::Columns),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("is_json", &matches!(self.format, Format::Json)).finish_non_exhaustive()
    }
}

/// Looks at how a file begins; nothing is stored yet. A wrong file among several is so found before the first is stored.
///
/// # Errors
/// [`Error::Invalid`] where it is empty, cannot be read, or is neither JSON nor a CSV with Jupiter's columns.
pub fn open(source: impl Read + Send + 'static) -> Result<Source> {
    let mut reader: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(1 << 16, source));
    loop {
        let seen = reader.fill_buf().map_err(|e| Error::invalid("import", format!("cannot be read: {e}")))?;
        let space = seen.iter().take_while(|byte| byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(byte)).count();
        let first = seen.get(space).copied();
        if first.is_none() && space == 0 {
            return Err(Error::invalid("import", "is empty"));
        }
        reader.consume(space);
        match first {
            None => {}
            Some(b'{' | b'[') => return Ok(Source { reader, format: Format::Json }),
            Some(_) => {
                let columns = jupiter::Columns::read(&mut reader)?;
                return Ok(Source { reader, format: Format::Csv(columns) });
            }
        }
    }
}

/// Reads a file and stores what it holds, batch by batch; `progress` is told after each. When it returns Ok, every entry
/// up to the end, or up to where the file is [torn](Report::torn), is stored, refused with a reason, or counted as
/// something else.
///
/// # Errors
/// [`Error::Invalid`] where the file holds neither a list nor accounts; else as [`Tokens::store`]. Batches before the
/// error are stored, and the import can be run again.
pub async fn import(
    tokens: &Tokens,
    source: Source,
    options: &Options,
    mut progress: impl FnMut(&Summary) + Send,
) -> Result<Report> {
    let (sender, mut batches) = mpsc::channel(BATCHES_WAITING_MAX);
    let (chain, slot, address) = (options.chain, options.slot, options.address);
    // Reading waits for a disk: not on a thread of the runtime. It ends with the channel.
    let reader = tokio::task::spawn_blocking(move || {
        let hand_over = |batch| sender.blocking_send(batch).is_ok();
        read_all(source, Collector::new(chain, slot, address, hand_over))
    });
    let mut stored = Summary::default();
    while let Some(batch) = batches.recv().await {
        let done = match batch {
            Batch::Observations(seen) => tokens.store(&seen, &options.source).await?,
            Batch::Listings(listed) => tokens.store_listings(&listed, &options.source).await?,
        };
        stored += done;
        progress(&stored);
    }
    let mut report = reader.await.unwrap_or(Err(Error::Closed("the thread that reads the file")))?;
    stored.repeated += report.stored.repeated;
    report.stored = stored;
    Ok(report)
}

/// Hands everything to the collector. The report's counts of what was stored are still to come.
fn read_all<F: FnMut(Batch) -> bool>(source: Source, mut collector: Collector<F>) -> Result<Report> {
    let read = match source.format {
        Format::Json => json::read(source.reader, &mut collector),
        Format::Csv(columns) => columns.read_lines(source.reader, &mut collector),
    };
    collector.finish(read.err())
}
