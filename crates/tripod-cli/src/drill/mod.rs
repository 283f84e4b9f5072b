//! Drills: break something on the local stack under load, and prove what the README promises.
//!
//! Constraints: only servers of this data directory's own stack are broken, never somebody's production. What was
//! recorded is known by a *witness*, which saw each `record()` return; what the rows must hold is made again from a seed.
//! Neither the journal nor any count of Tripod's own is asked for either. What arrived is asked of the server.
//!
//! Picture:
//! ```text
//!           order, end (stdin)          ┌─▶ journal ─▶ sink ─▶ QuestDB
//! drill ─────────────────────▶ load ────┤                        ▲  │
//!   │ ◀──────────────────────── (child) └ row recorded (stdout)  │  │ SELECT
//!   ├── kill -9 ──────────────────▲                              │  │
//!   └── kill -9 ─────────────────────────────────────────────────┘  ▼
//!   witness + seed ───────────────────────────────────▶ verdict ◀── rows
//! ```
//! Operation: scene (own table, own journals) → load → break, N rounds → all delivered → read back → verdict. The
//! table and the journals are removed afterwards, unless a promise was broken.

mod child;
mod clock;
mod clock_back;
mod destroy_and_restore;
mod disk;
mod events_report;
mod events_witness;
mod fill_disk;
mod gate;
mod held;
mod kill_bot;
mod kill_both;
mod kill_questdb;
mod kill_redis_primary;
pub(crate) mod load;
mod outage;
mod own_stack;
mod patience;
mod poison_row;
mod raw;
pub(crate) mod record;
mod report;
mod restart_everything;
mod row;
mod scene;
mod server;
mod slow_network;
mod stall_postgres;
mod suspend_table;
mod trim_unread;
mod verdict;
mod whole;
mod whole_stack;
mod witness;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;
use tripod_stack::{ServerName, Servers};

use events_report::EventsReport;
pub(crate) use own_stack::OwnStack;
use report::{Besides, Report};
pub(crate) use scene::{own_questdb, remove_dir};
pub(crate) use server::pause;

use crate::args::Global;
use scene::Scene;

/// What can be rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Drill {
    /// The bot is killed (-9) at random moments, and started again
    KillBot,
    /// QuestDB is killed (-9) at random moments; the supervisor starts it again
    KillQuestdb,
    /// Both are killed (-9) together
    KillBoth,
    /// QuestDB refuses some of the rows that it is sent
    PoisonRow,
    /// The network to Redis is slow, then cut without a word, then back
    SlowNetwork,
    /// PostgreSQL is frozen (SIGSTOP) at random moments, and thaws
    StallPostgres,
    /// The primary of highly available events is killed (-9); on servers of the drill's own
    KillRedisPrimary,
    /// A stream is trimmed before its group has read it; on a server of the drill's own
    TrimUnread,
    /// QuestDB suspends the table: a part of its log cannot be read
    SuspendTable,
    /// The disk of QuestDB and of the journals is full (needs the right to mount)
    FillDisk,
    /// QuestDB is away for a while (--seconds)
    Outage,
    /// The bot's clock and the servers' go back; on servers and clocks of the drill's own
    ClockBack,
    /// All servers, their supervisor and the bot are killed (-9) at once; on servers of the drill's own
    RestartEverything,
    /// All data of the three servers are destroyed, and restored from a backup; on servers of the drill's own
    DestroyAndRestore,
}

impl Drill {
    pub(crate) const ALL: [Self; 14] = [
        Self::KillBot,
        Self::KillQuestdb,
        Self::KillBoth,
        Self::PoisonRow,
        Self::SuspendTable,
        Self::FillDisk,
        Self::Outage,
        Self::KillRedisPrimary,
        Self::TrimUnread,
        Self::SlowNetwork,
        Self::StallPostgres,
        Self::DestroyAndRestore,
        Self::ClockBack,
        Self::RestartEverything,
    ];

    /// The name that is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillBot => "kill-bot",
            Self::KillQuestdb => "kill-questdb",
            Self::KillBoth => "kill-both",
            Self::PoisonRow => "poison-row",
            Self::SlowNetwork => "slow-network",
            Self::StallPostgres => "stall-postgres",
            Self::KillRedisPrimary => "kill-redis-primary",
            Self::TrimUnread => "trim-unread",
            Self::SuspendTable => "suspend-table",
            Self::FillDisk => "fill-disk",
            Self::Outage => "outage",
            Self::DestroyAndRestore => "destroy-and-restore",
            Self::ClockBack => "clock-back",
            Self::RestartEverything => "restart-everything",
        }
    }

    /// The question of the one who runs it.
    pub(crate) fn what_if(self) -> &'static str {
        match self {
            Self::KillBot => "the bot is killed (-9) while it records",
            Self::KillQuestdb => "QuestDB is killed (-9) while rows come in",
            Self::KillBoth => "the bot and QuestDB are killed (-9) together",
            Self::PoisonRow => "QuestDB refuses a row",
            Self::SlowNetwork => "the network to Redis is slow, then cut without a word",
            Self::StallPostgres => "PostgreSQL stops answering and comes back",
            Self::KillRedisPrimary => "the primary for events is killed (-9) under `up --ha`",
            Self::TrimUnread => "a stream is trimmed before a group has read it",
            Self::SuspendTable => "QuestDB suspends a table, answers OK and shows nothing",
            Self::FillDisk => "the disk is full",
            Self::Outage => "QuestDB is away for a while",
            Self::DestroyAndRestore => "the data of all servers are destroyed",
            Self::ClockBack => "the clock of the bot's machine or of the servers' goes back",
            Self::RestartEverything => "all servers, their supervisor and the bot end at once",
        }
    }

    /// What the README promises for that.
    pub(crate) fn promise(self) -> &'static str {
        match self {
            Self::KillBot => {
                "every row for which record() returned is in QuestDB, once, as it was recorded; a thread that was \
                 stopped inside record() neither holds the others up nor hides their rows"
            }
            Self::KillQuestdb => "record() does not wait; every row is in QuestDB, once, as it was recorded",
            Self::KillBoth => "every row for which record() returned is in QuestDB, once, as it was recorded",
            Self::PoisonRow => "the refused row goes to quarantine with the reason; the rows behind it go on",
            Self::SlowNetwork => {
                "memory serves prices with their age, calls keep their deadline, then fresh within 1 s"
            }
            Self::StallPostgres => {
                "record() and tokens in memory do not wait; each call ends by its deadline, the first good one at most \
                 1 s after the thaw"
            }
            Self::KillRedisPrimary => {
                "another server takes writes within 4 s; no acknowledged event is lost, none is there twice"
            }
            Self::TrimUnread => "the stream keeps its cap; the group is told exactly how many events it missed",
            Self::SuspendTable => "it is said; every row is kept and visible again by itself, once, as it was recorded",
            Self::FillDisk => "it is said, or trading is to stop; with space again every row is in QuestDB, once",
            Self::Outage => "record() does not wait, memory does not grow, each row is accounted for, none is lost",
            Self::DestroyAndRestore => {
                "the backup restores; every row recorded before and after it is back, once; without the journal it is \
                 said from when rows are missing"
            }
            Self::ClockBack => {
                "every row is in QuestDB, once, as it was recorded; no price is told younger than it is; nothing \
                 acknowledged is lost; who falls silent is overdue; ids go on rising; fresh prices within 15 s"
            }
            Self::RestartEverything => {
                "`up` brings all back: every row, event and setting that was acknowledged is there, once; fresh prices \
                 within 15 s"
            }
        }
    }

    /// Rounds where nobody says how many.
    pub(crate) fn rounds_default(self) -> u32 {
        match self {
            Self::KillBot | Self::PoisonRow | Self::TrimUnread => 5,
            Self::KillQuestdb | Self::KillBoth | Self::KillRedisPrimary | Self::SlowNetwork | Self::StallPostgres => 3,
            Self::ClockBack => 3,
            Self::RestartEverything => 2,
            Self::SuspendTable | Self::FillDisk => 2,
            Self::Outage | Self::DestroyAndRestore => 1,
        }
    }

    /// Whether somebody must be there to start QuestDB again.
    fn kills_questdb(self) -> bool {
        matches!(self, Self::KillQuestdb | Self::KillBoth | Self::Outage)
    }
}

/// How one round went.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Break {
    /// From the break until the server answered again; only where the server was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) away_ms: Option<u64>,
    /// From the break until somebody said so, where nothing ended by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) said_ms: Option<u64>,
    /// From the break (a full disk: from its mend) to the first row behind it visible; with a frozen PostgreSQL, from the
    /// thaw to the first good call. None where the next break came before that: then that one's time counts from here.
    pub(crate) recovery_ms: Option<u64>,
    /// Rows that other threads recorded while one was held inside an append; only where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beside_held: Option<u64>,
}

/// How much is to be broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rounds: u32,
    /// Of an outage.
    pub(crate) seconds: u64,
}

/// Runs one drill; what it left is removed where every promise was kept.
pub(crate) fn run(drill: Drill, extent: Extent, global: &Global, bar: &ProgressBar) -> anyhow::Result<Outcome> {
    let rounds = extent.rounds;
    match drill {
        Drill::SlowNetwork => slow_network::run(rounds, global, bar).map(Outcome::Prices),
        Drill::DestroyAndRestore => destroy_and_restore::run(global, rounds, bar).map(Box::new).map(Outcome::Rows),
        Drill::KillRedisPrimary | Drill::TrimUnread => run_events(drill, rounds, global, bar).map(Outcome::Events),
        Drill::ClockBack | Drill::RestartEverything => {
            whole_stack::run(drill, rounds, global, bar).map(Box::new).map(Outcome::Rows)
        }
        _ => run_rows(drill, extent, global, bar).map(Box::new).map(Outcome::Rows),
    }
}

/// What a drill says.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Rows(Box<Report>),
    Events(EventsReport),
    Prices(slow_network::Report),
}

impl Outcome {
    pub(crate) fn ok(&self) -> bool {
        match self {
            Self::Rows(report) => report.ok,
            Self::Events(report) => report.ok,
            Self::Prices(report) => report.ok,
        }
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Self::Rows(report) => report.words(),
            Self::Events(report) => report.words(),
            Self::Prices(report) => report.words(),
        }
    }
}

/// On servers of the drill's own, below the data directory; they are gone afterwards.
fn run_events(drill: Drill, rounds: u32, global: &Global, bar: &ProgressBar) -> anyhow::Result<EventsReport> {
    std::fs::create_dir_all(&global.data).with_context(|| format!("cannot make {}", global.data.display()))?;
    let data = global.data.canonicalize().with_context(|| format!("cannot open {}", global.data.display()))?;
    let drills = data.join("drills");
    let _lock = scene::lock(&drills)?;
    let replicated = drill == Drill::KillRedisPrimary;
    let servers = if replicated { Servers::EVENTS_HA } else { Servers::only(ServerName::RedisEvents) };
    let own = OwnStack::start(&drills.join(drill.name()), servers)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match drill {
            Drill::KillRedisPrimary => Box::pin(kill_redis_primary::run(&own, rounds, bar)).await,
            _ => trim_unread::run(&own, rounds, bar).await,
        }
    })
}

fn run_rows(drill: Drill, extent: Extent, global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    let rounds = extent.rounds;
    let (mut scene, disk) = match drill {
        Drill::FillDisk => fill_disk::set(global).map(|(scene, disk)| (scene, Some(disk)))?,
        _ => (Scene::set(drill, global)?, None),
    };
    let mut besides = Besides::default();
    let ran = match (drill, &disk) {
        (Drill::KillBot, _) => kill_bot::run(&mut scene, rounds, bar),
        (Drill::KillQuestdb, _) => kill_questdb::run(&mut scene, rounds, bar),
        (Drill::KillBoth, _) => kill_both::run(&mut scene, rounds, bar),
        (Drill::SuspendTable, _) => suspend_table::run(&mut scene, rounds, bar),
        (Drill::FillDisk, Some(disk)) => fill_disk::run(&mut scene, disk, rounds, bar),
        (Drill::FillDisk, None) => Err(anyhow::anyhow!("there is no small disk")),
        (Drill::Outage, _) => outage::run(&mut scene, extent.seconds, bar).map(|(breaks, found)| {
            besides.outage = Some(found);
            breaks
        }),
        (Drill::StallPostgres, _) => {
            stall_postgres::run(&mut scene, &global.load()?, rounds, bar).map(|(breaks, seen)| {
                besides.calls = Some(seen);
                breaks
            })
        }
        _ => poison_row::run(&mut scene, rounds, bar),
    };
    bar.set_message("reading every row back");
    let judged = ran.and_then(|breaks| scene.judge().map(|judged| (breaks, judged)));
    let (breaks, judged) = judged.map_err(|error| error.context(scene.left_behind()))?;
    let mut report = Report::new(drill, rounds, &scene, breaks, judged, besides);
    if !report.ok {
        report.evidence = Some(scene.left_behind());
    } else if let Some(disk) = &disk {
        let dir = disk.path.parent().unwrap_or(&disk.path).to_owned();
        fill_disk::clear(&dir)?;
    } else {
        scene.clear()?;
    }
    Ok(report)
}
