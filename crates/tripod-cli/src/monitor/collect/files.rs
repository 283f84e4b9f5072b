//! What this machine's files tell: every bot's journals, disks, drills, backups, the last retention.
//!
//! Constraints: blocks, so it runs on a thread that may wait; never longer than it pauses, so a large backlog or a slow
//! disk costs no more than a few percent of a core. A bot whose journals cannot be read hides nothing of the others.
//!
//! Picture: one look
//! ```text
//! each second     ledger and sinks of each bot (some small files)
//! each 5 seconds  which bots there are, segments, disks, drills, backups, retention
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tripod::Config;
use tripod::metrics::BotFacts;
use tripod::tape::retention::RetentionState;

use super::EVERY;
use super::standing::words;
use crate::drill::record::{self, Record};
use crate::monitor::Places;
use crate::monitor::backups::Backups;
use crate::monitor::snapshot::Disk;

/// Between two looks at what changes rarely.
const ALL_EVERY: Duration = Duration::from_secs(5);
/// Bots that are followed at most.
const BOTS_MAX: usize = 100;
/// A look takes at most this part of the time.
const SHARE: u32 = 50;
/// Drills that are shown.
const DRILLS_MAX: usize = 20;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::monitor) struct Files {
    /// When they were looked at.
    pub(in crate::monitor) looked_at: Option<Instant>,
    pub(in crate::monitor) bots: Arc<Vec<BotFacts>>,
    pub(in crate::monitor) disks: Vec<Disk>,
    /// The newest first.
    pub(in crate::monitor) drills: Vec<Record>,
    pub(in crate::monitor) backups: Backups,
    /// When the last retention ended; empty: never.
    pub(in crate::monitor) retention_at: String,
    /// What cannot be read, in words.
    pub(in crate::monitor) troubles: Vec<String>,
}

#[derive(Debug)]
struct Looker {
    config: Config,
    data: PathBuf,
    backups_dir: PathBuf,
    bots: BTreeMap<String, Bot>,
    all_at: Option<Instant>,
    /// What a look at everything took.
    all_took: Duration,
    rest: Rest,
}

#[derive(Debug)]
struct Bot {
    config: Config,
    facts: Option<BotFacts>,
    /// Why not, or why its journals are not as new as they should be.
    trouble: Option<String>,
}

/// What is looked at with everything.
#[derive(Debug, Default, Clone)]
struct Rest {
    disks: Vec<Disk>,
    drills: Vec<Record>,
    backups: Backups,
    retention_at: String,
    troubles: Vec<String>,
}

/// Looks as long as the runtime runs.
pub(super) fn run(config: &Config, places: &Places) -> watch::Receiver<Files> {
    let (sender, receiver) = watch::channel(Files::default());
    let mut looker = Looker {
        config: config.clone(),
        data: places.data.clone(),
        backups_dir: places.backups.clone(),
        bots: BTreeMap::new(),
        all_at: None,
        all_took: Duration::ZERO,
        rest: Rest::default(),
    };
    tokio::spawn(async move {
        loop {
            let start = Instant::now();
            let looked = tokio::task::spawn_blocking(move || {
                let files = looker.look();
                (looker, files)
            });
            // Only a panic ends it, and then the sample grows old and `/health` says so.
            let Ok((back, files)) = looked.await else { return };
            looker = back;
            sender.send_replace(files);
            let took = start.elapsed();
            tokio::time::sleep(EVERY.saturating_sub(took).max(took * SHARE)).await;
        }
    });
    receiver
}

impl Looker {
    fn look(&mut self) -> Files {
        let pause = ALL_EVERY.max(self.all_took * SHARE);
        let all = self.all_at.is_none_or(|at| at.elapsed() >= pause);
        let start = Instant::now();
        if all {
            self.find_bots();
        }
        for bot in self.bots.values_mut() {
            bot.read(all);
        }
        if all {
            self.rest = self.look_at_rest();
            (self.all_at, self.all_took) = (Some(Instant::now()), start.elapsed());
        }
        let Rest { disks, drills, backups, retention_at, mut troubles } = self.rest.clone();
        troubles.extend(self.bots.values().filter_map(|bot| bot.trouble.clone()));
        let bots = Arc::new(self.bots.values().filter_map(|bot| bot.facts.clone()).collect());
        Files { looked_at: Some(Instant::now()), bots, disks, drills, backups, retention_at, troubles }
    }

    /// Every directory beside the config's own bot's, and that one also before it is there.
    fn find_bots(&mut self) {
        let mut names: Vec<String> = std::fs::read_dir(&self.config.journal.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.push(self.config.bot.clone());
        names.sort();
        names.dedup();
        names.truncate(BOTS_MAX);
        self.bots.retain(|name, _| names.contains(name));
        for name in names {
            if !self.bots.contains_key(&name) {
                let mut config = self.config.clone();
                name.clone_into(&mut config.bot);
                self.bots.insert(name, Bot { config, facts: None, trouble: None });
            }
        }
    }

    fn look_at_rest(&self) -> Rest {
        let mut troubles = Vec::new();
        let places = [
            ("data", self.data.as_path()),
            ("journals", &self.config.journal.dir),
            ("archive", &self.config.retention.archive_dir),
            ("backups", &self.backups_dir),
        ];
        let disks = places.into_iter().filter_map(|(place, dir)| disk(place, dir)).collect();
        let drills = record::read(&self.data).unwrap_or_else(|error| {
            troubles.push(format!("drills: {error:#}"));
            Vec::new()
        });
        let retention_at = match RetentionState::read(&self.config.retention.archive_dir) {
            Ok(state) => state.last_run_at,
            Err(error) => {
                troubles.push(words(&error));
                String::new()
            }
        };
        let backups = self.rest.backups.clone().look(&self.backups_dir);
        troubles.extend(backups.trouble.clone());
        Rest { disks, drills: drills.into_iter().rev().take(DRILLS_MAX).collect(), backups, retention_at, troubles }
    }
}

impl Bot {
    fn read(&mut self, all: bool) {
        let read = match &mut self.facts {
            None => BotFacts::read(&self.config).map(|facts| self.facts = Some(facts)),
            Some(facts) => facts
                .read_progress(&self.config)
                .and_then(|()| if all { facts.read_journals(&self.config) } else { Ok(()) }),
        };
        self.trouble = read.err().map(|error| format!("bot {}: {}", self.config.bot, words(&error)));
        if self.trouble.is_some() {
            // What was read before is not shown as if it were still so.
            self.facts = None;
        }
    }
}

/// Of the nearest directory that is there: what is to be written there will be on its disk.
fn disk(place: &'static str, dir: &Path) -> Option<Disk> {
    let dir = dir.ancestors().find(|dir| dir.is_dir())?;
    let facts = rustix::fs::statvfs(dir).ok()?;
    Some(Disk {
        place,
        free_bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
        total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize),
    })
}
