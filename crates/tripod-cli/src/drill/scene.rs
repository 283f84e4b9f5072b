//! What a drill stands on: the stack it may break, a table and journals of its own, and their end.
//!
//! Picture: `DATA/drills/lock` (one drill at a time: two would break each other's measurements),
//! `DATA/drills/NAME/{journals,load.log}`, the table `drill_NAME_rows`.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tripod::ledger::{self, LedgerRow};
use tripod::tape::Row as _;
use tripod::tape::quarantine;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::spec::Importance;
use tripod::{Config, Uuid};
use tripod_stack::{ServerName, ServerState};

use super::child::{Load, Span, Witnessed, next_from};
use super::load::Order;
use super::row::{Dice, DrillRow, Recipe, THREADS};
use super::server::{Table, base_now, windows_end};
use super::verdict::{Judge, Verdict};
use super::witness::RecordNanos;
use super::{Drill, kill_questdb};
use crate::args::Global;
use crate::exit::Stop;

/// One statement; a look at a server that hangs ends within this.
const STATEMENT_WITHIN: Duration = Duration::from_secs(30);
/// Tables of drills.
const PREFIX: &str = "drill_";

/// See the module.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) drill: Drill,
    pub(super) config_path: PathBuf,
    pub(super) table: Table,
    pub(super) recipe: Recipe,
    pub(super) dice: Dice,
    pub(super) spans: Vec<Span>,
    pub(super) record_ns: RecordNanos,
    /// The data directory of the stack.
    pub(super) data: PathBuf,
    pub(super) dir: PathBuf,
    /// The load's log; each life adds to it.
    pub(super) log: PathBuf,
    prefix: String,
    pub(super) config: Config,
    /// Held until the drill is over.
    _lock: File,
}

/// What was found out.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The row of the drill's table; none where the journals know of no such table.
    pub(super) ledger: Option<LedgerRow>,
}

impl Scene {
    /// Refuses servers that are not this data directory's own, removes what a drill before has left, makes the table.
    pub(super) fn set(drill: Drill, global: &Global) -> anyhow::Result<Self> {
        let (config, data) = (global.load()?, global.data.as_path());
        let own = own_questdb(&config, data)?;
        if drill.kills_questdb() {
            kill_questdb::check(&own)?;
        }
        let data = data.canonicalize().with_context(|| format!("cannot open {}", data.display()))?;
        let config_path = global.config.clone().unwrap_or_else(|| data.join(tripod::config::FILE_NAME));
        let lock = lock(&data.join("drills"))?;
        let dir = data.join("drills").join(drill.name());
        remove_dir(&dir)?;
        Self::set_on(drill, config, config_path, data, dir, lock)
    }

    /// The same on any stack: `data` is its directory, `dir` the drill's own; the caller has seen to both.
    pub(super) fn set_on(
        drill: Drill,
        config: Config,
        config_path: PathBuf,
        data: PathBuf,
        dir: PathBuf,
        lock: File,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let prefix = format!("{PREFIX}{}_", drill.name().replace('-', "_"));
        let seed = Uuid::new_v4().as_u64_pair().1;
        let recipe = Recipe { seed, base: base_now(), poison: drill == Drill::PoisonRow };
        let server = config.questdb.first().context("the config names no QuestDB")?;
        let table = Table::new(QuestDbHttp::new(server, STATEMENT_WITHIN)?, &prefix, recipe);
        table.remove()?;
        table.create(&prefix)?;
        Ok(Self {
            drill,
            config_path,
            table,
            recipe,
            dice: Dice::new(seed),
            spans: Vec::new(),
            record_ns: RecordNanos::new()?,
            data,
            log: dir.join("load.log"),
            dir,
            prefix,
            config,
            _lock: lock,
        })
    }

    /// QuestDB as it is now; refuses one that is not this stack's.
    pub(super) fn own_questdb(&self) -> anyhow::Result<ServerState> {
        own_questdb(&self.config, &self.data)
    }

    /// The data directory of the stack.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Starts the load where its last life ended.
    pub(super) fn start_load(&self) -> anyhow::Result<Load> {
        self.start_load_with(|_| {})
    }

    /// The same, with something of this drill's own.
    pub(super) fn start_load_with(&self, change: impl FnOnce(&mut Order)) -> anyhow::Result<Load> {
        let mut order = self.order();
        change(&mut order);
        Load::start(self, &order)
    }

    /// The config that the load runs by.
    pub(super) fn load_config(&self) -> Config {
        let mut config = self.config.clone();
        self.order().apply(&mut config);
        config
    }

    fn order(&self) -> Order {
        Order {
            bot: self.drill.name().to_owned(),
            journals: self.dir.join("journals"),
            table_prefix: self.prefix.clone(),
            recipe: self.recipe,
            from: if self.spans.is_empty() { [0; THREADS] } else { next_from(&self.spans) },
            hold: None,
            http: None,
            small_segments: false,
            budget_mib: None,
        }
    }

    /// Where the load's log goes; each life adds to it.
    pub(super) fn load_log(&self) -> anyhow::Result<File> {
        let log = File::options().create(true).append(true).open(&self.log);
        log.with_context(|| format!("cannot open {}", self.log.display()))
    }

    /// Keeps what a life of the load has recorded.
    pub(super) fn remember(&mut self, witnessed: &Witnessed) -> anyhow::Result<()> {
        self.spans.extend(&witnessed.spans);
        self.record_ns.add(&witnessed.record_ns)
    }

    /// Ends the load in order: when it returns, the load says that every row is visible.
    pub(super) fn end_load(&mut self, load: Load) -> anyhow::Result<()> {
        let (witnessed, status) = load.end()?;
        self.remember(&witnessed)?;
        ensure!(status.success(), "the load did not end well ({status})");
        Ok(())
    }

    /// Reads every row back and compares.
    pub(super) fn judge(&self) -> anyhow::Result<Judged> {
        let mut judge = Judge::new(self.recipe, &self.spans);
        let mut read = 0_u64;
        let to = windows_end(self.spans.iter().map(|span| span.to));
        self.table.read(to, |row| {
            read += 1;
            judge.meet(row);
        })?;
        judge.meet_elsewhere(self.table.count()?.saturating_sub(read));
        let config = self.load_config();
        let journals = config.journal_dir();
        for sink in &config.questdb {
            for row in quarantine::read(&quarantine::path(&journals, &sink.name, Importance::Critical))? {
                judge.meet_quarantined(row.row.get("id").and_then(|id| id.as_str()).unwrap_or_default());
            }
        }
        let ledger = ledger::read(&journals)?.into_iter().find(|row| row.table == DrillRow::spec().name);
        Ok(Judged { verdict: judge.finish(), ledger })
    }

    /// Where to look when a promise was broken.
    pub(super) fn left_behind(&self) -> String {
        format!("the drill left the table {}, and journals and log in {}", self.table.name, self.dir.display())
    }

    /// Removes table, journals, log.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        self.table.remove()?;
        remove_dir(&self.dir)
    }
}

/// QuestDB of this data directory's own stack. The config must name it and no other.
pub(crate) fn own_questdb(config: &Config, data: &Path) -> anyhow::Result<ServerState> {
    let hint = "leave --config out and give the stack's directory with --data; `tripod up` starts one";
    let foreign = |what: String| Stop::refused(what, hint);
    let servers = tripod_stack::check(data)?;
    let Some(own) = servers.into_iter().find(|server| server.name == ServerName::QuestDb) else {
        return Err(foreign(format!("there is no QuestDB of a local stack in {}", data.display())).into());
    };
    if let Some(other) = config.questdb.iter().find(|server| server.http != own.address) {
        let what = format!("QuestDB at {} is not the one of the stack in {}", other.http, data.display());
        return Err(foreign(what).into());
    }
    Ok(own)
}

/// Removes a directory; one that is not there is no error.
pub(crate) fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| format!("cannot remove {}", dir.display())),
        _ => Ok(()),
    }
}

/// One drill at a time on a stack.
pub(super) fn lock(drills: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(drills).with_context(|| format!("cannot make {}", drills.display()))?;
    let path = drills.join("lock");
    let lock = File::options().create(true).write(true).truncate(false).open(&path);
    let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        Err(std::fs::TryLockError::WouldBlock) => Err(Stop::refused(
            "another drill runs on this stack; two would break each other's measurements",
            "wait for it to end",
        )
        .into()),
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The end of a wait that begins now.
pub(super) fn within(time: Duration) -> Instant {
    Instant::now() + time
}
