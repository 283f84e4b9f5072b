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
mod disk;
mod fill_disk;
mod gate;
mod held;
mod kill_bot;
mod kill_both;
mod kill_questdb;
pub(crate) mod load;
mod outage;
mod poison_row;
mod raw;
mod report;
mod row;
mod scene;
mod server;
mod suspend_table;
mod verdict;
mod witness;

use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;

pub(crate) use report::Report;
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
    /// QuestDB suspends the table: a part of its log cannot be read
    SuspendTable,
    /// The disk of QuestDB and of the journals is full (needs the right to mount)
    FillDisk,
    /// QuestDB is away for a while (--seconds)
    Outage,
}

impl Drill {
    pub(crate) const ALL: [Self; 7] = [
        Self::KillBot,
        Self::KillQuestdb,
        Self::KillBoth,
        Self::PoisonRow,
        Self::SuspendTable,
        Self::FillDisk,
        Self::Outage,
    ];

    /// The name that is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillBot => "kill-bot",
            Self::KillQuestdb => "kill-questdb",
            Self::KillBoth => "kill-both",
            Self::PoisonRow => "poison-row",
            Self::SuspendTable => "suspend-table",
            Self::FillDisk => "fill-disk",
            Self::Outage => "outage",
        }
    }

    /// The question of the one who runs it.
    pub(crate) fn what_if(self) -> &'static str {
        match self {
            Self::KillBot => "the bot is killed (-9) while it records",
            Self::KillQuestdb => "QuestDB is killed (-9) while rows come in",
            Self::KillBoth => "the bot and QuestDB are killed (-9) together",
            Self::PoisonRow => "QuestDB refuses a row",
            Self::SuspendTable => "QuestDB suspends a table, answers OK and shows nothing",
            Self::FillDisk => "the disk is full",
            Self::Outage => "QuestDB is away for a while",
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
            Self::SuspendTable => "it is said; every row is kept and visible again by itself, once, as it was recorded",
            Self::FillDisk => "it is said, or trading is to stop; with space again every row is in QuestDB, once",
            Self::Outage => "record() does not wait, memory does not grow, each row is accounted for, none is lost",
        }
    }

    /// Rounds where nobody says how many.
    pub(crate) fn rounds_default(self) -> u32 {
        match self {
            Self::KillBot | Self::PoisonRow => 5,
            Self::KillQuestdb | Self::KillBoth => 3,
            Self::SuspendTable | Self::FillDisk => 2,
            Self::Outage => 1,
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
    /// From the break (a full disk: from its mend) to the first row behind it visible. None where the next break came
    /// before that: then that one's time counts from here.
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
pub(crate) fn run(drill: Drill, extent: Extent, global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    let rounds = extent.rounds;
    let (mut scene, disk) = match drill {
        Drill::FillDisk => fill_disk::set(global).map(|(scene, disk)| (scene, Some(disk)))?,
        _ => (Scene::set(drill, global)?, None),
    };
    let mut outage = None;
    let ran = match (drill, &disk) {
        (Drill::KillBot, _) => kill_bot::run(&mut scene, rounds, bar),
        (Drill::KillQuestdb, _) => kill_questdb::run(&mut scene, rounds, bar),
        (Drill::KillBoth, _) => kill_both::run(&mut scene, rounds, bar),
        (Drill::PoisonRow, _) => poison_row::run(&mut scene, rounds, bar),
        (Drill::SuspendTable, _) => suspend_table::run(&mut scene, rounds, bar),
        (Drill::FillDisk, Some(disk)) => fill_disk::run(&mut scene, disk, rounds, bar),
        (Drill::FillDisk, None) => Err(anyhow::anyhow!("there is no small disk")),
        (Drill::Outage, _) => outage::run(&mut scene, extent.seconds, bar).map(|(breaks, found)| {
            outage = Some(found);
            breaks
        }),
    };
    bar.set_message("reading every row back");
    let judged = ran.and_then(|breaks| scene.judge().map(|judged| (breaks, judged)));
    let (breaks, judged) = judged.map_err(|error| error.context(scene.left_behind()))?;
    let mut report = Report::new(drill, rounds, &scene, breaks, judged, outage);
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
