//! Backups: the three stores as one, at one moment, proven by a restore.
//!
//! Constraints: nothing half made is ever listed: a backup is written aside and gets its name in one step. No outcome, not
//! even a kill, leaves a checkpoint open on QuestDB: it is noted before it is opened, and the next command releases it. What
//! counts as *proven* is a file on the disk that only a restore on servers of its own has written. Nothing of a stack's
//! data is replaced before what replaces it has recovered, aside, on servers that checked it. No secret is in a manifest,
//! and no config file of a server is in a backup; the data themselves are, so a backup is for its owner alone.
//!
//! Picture: `create`
//! ```text
//! PostgreSQL  base backup ───────────────┐                         log switched, archived ─▶ log up to the point ─┐
//!                                        ▼  one moment, the cut                                                    │
//! QuestDB     ············ barrier ─▶ CHECKPOINT CREATE ─▶ files copied ─▶ CHECKPOINT RELEASE ─▶ rows summed ───────┤
//! Redis       ············ barrier ─▶ BGSAVE ───────────▶ snapshot copied ──────────────────────────────────────────┤
//! PostgreSQL  ············ barrier ─▶ restore point                                                                 ▼
//!                                        manifest (versions, transactions, counts, sums, SHA-256 of each file) ─▶ its name
//! ```
//! `verify`: SHA-256 of each file → servers of its own, recovered from it → the barrier, counts and sums → `proof.json`.
//! `restore`: the same recovery, aside → the stack stands still → directories change places → `up` → sinks deliver again.
//!
//! ```text
//! BACKUPS/ID/manifest.json, manifest.sha256     what it is; the second is the sum of the first
//! BACKUPS/ID/{questdb,postgres,redis-events}/…  files, each compressed by itself (zstd)
//! BACKUPS/ID/proof.json                         what the last `verify` found
//! BACKUPS/.aside/ID/                            one that is being made, or removed
//! BACKUPS/.scratch/                             servers of a `verify`
//! BACKUPS/.checkpoint.json                      a checkpoint is open, or may be
//! DATA/restore/                                 a restore: what takes the place of the data, and servers that made it ready
//! DATA/restore.json                             directories that change places
//! ```
//! Prices are in no backup: they live for two seconds and come anew from their feeds.

pub(crate) mod check;
pub(crate) mod create;
mod events;
mod files;
pub(crate) mod leftovers;
pub(crate) mod manifest;
pub(crate) mod postgres;
pub(crate) mod prune;
mod questdb;
mod reference;
pub(crate) mod restore;
pub(crate) mod site;
mod stage;
pub(crate) mod store;
pub(crate) mod swap;
pub(crate) mod verify;

use std::time::Duration;

use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

/// One of the stores of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The tape
    Questdb,
    /// Tokens, settings, health
    Postgres,
    /// Event streams
    #[serde(rename = "redis-events")]
    #[value(name = "redis")]
    Events,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Questdb, Self::Postgres, Self::Events];

    /// The name of its directory, and in `--json`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Questdb => "questdb",
            Self::Postgres => "postgres",
            Self::Events => "redis-events",
        }
    }
}

/// Shows what is being done, and how far it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    bar: &'a ProgressBar,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(bar: &'a ProgressBar) -> Self {
        Self { bar }
    }

    /// The next step; `total` bytes or rows where that is known.
    fn step(self, what: &str, total: Option<u64>) {
        self.bar.set_message(what.to_owned());
        self.bar.set_position(0);
        self.bar.set_length(total.unwrap_or(0));
    }

    fn add(self, amount: u64) {
        self.bar.inc(amount);
    }

    fn set(self, amount: u64) {
        self.bar.set_position(amount);
    }
}

/// The pause between two looks at something that nobody announces.
fn pause(span: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "servers tell nobody when a snapshot or a log is done; looked at under a deadline"
    )]
    std::thread::sleep(span);
}
