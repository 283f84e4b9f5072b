//! `tripod replay`: check the input, ask whether the servers are fit, drive, prove, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::watch;
use tripod::ledger::{self, LedgerRow};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::row::Row as _;
use tripod::tape::schema::{self, Action, ActionKind};
use tripod::tape::spec::TableSpec;
use tripod::tape::tables::{MarketTrade, Quote};
use tripod::{Config, Timestamp};

use super::{ask_questdb, block_on, questdb_name};
use crate::args::{Global, Replay};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};
use crate::replay::drive::{self, Driven, Legs};
use crate::replay::proof::{self, Ask};
use crate::replay::report::{Facts, Report, SinkProof};
use crate::replay::script::Script;
use crate::replay::survey::{self, Survey};

/// One SELECT of the proof answers within this.
const PROOF_TIMEOUT: Duration = Duration::from_secs(60);
/// A server answers within this, or the replay does not begin.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// At the end the journal's last sync and the sinks' threads get this long.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
/// Days between the oldest row taken here and the day that expires: the sink refuses the last day before it, and a
/// replay over midnight must not end in it.
const DAYS_FROM_EXPIRY: u32 = 2;

pub(super) fn run(arguments: Replay, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    let script = Script::new(arguments.files, arguments.start_at.unwrap_or(now), arguments.rows)?;
    let spinner = output.spinner("reading the input");
    let survey = survey::survey(&script, arguments.skip_broken);
    spinner.finish_and_clear();
    let survey = survey?;
    if let Some(span) = survey.span {
        let (oldest, newest) = window(now);
        survey::check_span(span, oldest, newest)?;
    }
    say_what_it_is(&script, &survey, output);
    let config = global.load()?;
    let replay = Run { config, script: Arc::new(script), survey, output };
    block_on(replay.run(arguments.rate))
}

/// The times that the tape takes: not past the retention, not further ahead than a day.
fn window(now: Timestamp) -> (Timestamp, Timestamp) {
    let days = specs().iter().map(|spec| u32::from(spec.retain_days)).min().unwrap_or(0);
    let oldest = now.checked_sub(DAY * days.saturating_sub(DAYS_FROM_EXPIRY)).unwrap_or(Timestamp::EPOCH);
    (oldest, now.checked_add(DAY).unwrap_or(Timestamp::MAX))
}

fn specs() -> [&'static TableSpec; 2] {
    [MarketTrade::spec(), Quote::spec()]
}

fn say_what_it_is(script: &Script, survey: &Survey, output: Output) {
    for broken in &survey.broken {
        output.say(format!("left out: {broken}"));
    }
    let listed = u64::try_from(survey.broken.len()).unwrap_or(u64::MAX);
    if survey.broken_lines > listed {
        output.say(format!("left out: {} more", output::counted(survey.broken_lines - listed, "broken line")));
    }
    if survey.silences_cut > 0 {
        let count = survey.silences_cut;
        output.say(format!("note: gaps of more than a minute in the recordings are shortened to a second: {count}"));
    }
    output.say(format!(
        "{}, {}, {} from {}",
        output::counted(survey.trades, "trade"),
        output::counted(survey.quotes, "quote"),
        output::counted(survey.prices_only, "price"),
        script.names().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    ));
}

struct Run {
    config: Config,
    script: Arc<Script>,
    survey: Survey,
    output: Output,
}

/// QuestDB, as the proof asks it.
struct Asked<'a>(&'a QuestDbHttp);

impl Ask for Asked<'_> {
    fn ask(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        Ok(self.0.exec(sql)?.rows)
    }
}

impl Run {
    async fn run(self, rate: crate::replay::pace::Rate) -> anyhow::Result<Exit> {
        let started = Instant::now();
        self.check_servers().await?;
        let quarantined_before = self.quarantined(&ledger::read(&self.config.journal_dir())?);
        let legs = Arc::new(Legs::open(&self.config).await?);
        let stop = stop_on_interrupt();
        let bar = self.output.progress(&format!("replaying at {rate}"), self.survey.rows);
        let driven = drive::drive(&legs, &self.script, &self.survey, rate, &bar, &stop).await;
        bar.finish_and_clear();
        let driven = match driven {
            Ok(driven) if !driven.stopped => driven,
            Ok(driven) => return Err(self.stopped(legs, &driven).into()),
            Err(error) => {
                close(legs);
                return Err(error);
            }
        };
        let proofs = self.prove().await;
        close(legs);
        let proofs = proofs?;
        let quarantined = self.quarantined(&driven.ledger).saturating_sub(quarantined_before);
        let facts = Facts {
            start_at: self.script.start().to_string(),
            files: self.script.names().len(),
            survey: &self.survey,
            driven: &driven,
            proofs: &proofs,
            quarantined,
            elapsed: started.elapsed(),
        };
        let report = Report::new(&facts);
        self.output.result(&report, || report.words(&facts))?;
        Ok(if report.is_true() { Exit::Done } else { Exit::False })
    }

    /// A server that is away or behind is said before anything is recorded.
    async fn check_servers(&self) -> anyhow::Result<()> {
        for (number, server) in self.config.questdb.iter().enumerate() {
            let prefix = self.config.tape.table_prefix.clone();
            let behind = ask_questdb(server, ANSWER_WITHIN, move |http| {
                let live = schema::read_live(http)?;
                let plan = schema::plan(&live, specs(), &prefix);
                Ok(plan.into_iter().find(|action| !matches!(action.action, ActionKind::None | ActionKind::SetTtl)))
            })
            .await?;
            if let Some(action) = behind {
                return Err(not_ready(&questdb_name(&self.config, number), &action).into());
            }
        }
        Ok(())
    }

    async fn prove(&self) -> anyhow::Result<Vec<SinkProof>> {
        let spinner = self.output.spinner("asking the servers");
        let mut proofs = Vec::new();
        for (number, server) in self.config.questdb.iter().enumerate() {
            let http = QuestDbHttp::new(server, PROOF_TIMEOUT)?;
            let name = questdb_name(&self.config, number);
            // Reads files and waits for answers: this thread has nothing else to do.
            let tables = tokio::task::block_in_place(|| {
                proof::prove(&Asked(&http), &self.config.tape.table_prefix, &self.script, &self.survey)
            })
            .with_context(|| format!("cannot prove what {name} has"))?;
            proofs.push(SinkProof { sink: server.name.clone(), tables });
        }
        spinner.finish_and_clear();
        Ok(proofs)
    }

    /// Rows of the replayed tables in quarantine, over all sinks.
    fn quarantined(&self, ledger: &[LedgerRow]) -> u64 {
        let ours = |row: &&LedgerRow| specs().iter().any(|spec| spec.name == row.table);
        ledger.iter().filter(ours).map(|row| row.quarantined).sum()
    }

    /// What ^C leaves.
    fn stopped(&self, legs: Arc<Legs>, driven: &Driven) -> Stop {
        close(legs);
        let left = ledger::read(&self.config.journal_dir())
            .map_or(driven.settled.left, |ledger| ledger.iter().map(|row| row.pending + row.delivered).sum());
        Stop::untrue(
            format!(
                "stopped after {} of {} rows; {left} of them are in the journal and not visible yet, none is lost",
                driven.recorded,
                self.survey.tape_rows()
            ),
            format!("the same replay with --start-at {} brings the rest and proves the whole", self.script.start()),
        )
    }
}

fn not_ready(server: &str, action: &Action) -> Stop {
    let what = match action.action {
        ActionKind::Create => format!("{server} has no table {}", action.object),
        _ => format!("{server} has not this version's schema: {} {}: {}", action.action, action.object, action.detail),
    };
    Stop::untrue(what, "`tripod migrate` brings the servers to this version's schema")
}

/// Ends the tape's threads; what they could not deliver is in the journal.
fn close(legs: Arc<Legs>) {
    let Some(legs) = Arc::into_inner(legs) else { return };
    let report = tokio::task::block_in_place(|| legs.tape.close(CLOSE_WITHIN));
    for trouble in report.troubles {
        tracing::warn!(trouble, "closing the tape");
    }
}

/// Turns true at the first ^C; the second ends the process at once.
fn stop_on_interrupt() -> watch::Receiver<bool> {
    let (sender, stop) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            output::complain("stopping; what was recorded is kept (^C again ends at once)");
            let _ = sender.send(true);
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(i32::from(Exit::False.code()));
            }
        }
        // The receivers outlive this only where there is no way to be told.
        std::future::pending::<()>().await;
    });
    stop
}
