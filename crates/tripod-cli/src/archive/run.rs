//! One server's days, one after the other: rolled up, archived, compared; and the TTL that follows from it.
//!
//! Constraints: a step that fails fails its day, not the others. The archive is of the first server; the days of the
//! others are compared with it. An archived file that is not what was written is refused and never replaced by itself:
//! a flipped bit is a disk's word. Everything may be done again.

use serde::Serialize;
use tripod::config::{Config, Retention};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::retention::{self, Day, KeptMark, RetentionState, TableState, Uncovered};
use tripod::tape::schema::{self, LiveTable, LiveTables, rollups};
use tripod::tape::spec::{Importance, TableSpec};
use tripod::{Result, Timestamp};

use super::{Archive, Manifest, Source, damage, manifest};

/// Days before its end at which a day is compared by value once more, not by count alone: the sinks send no row of the
/// last day any more.
const LAST_LOOK_DAYS: u16 = 2;

/// One day of one table, as it is told.
#[derive(Debug, Serialize)]
pub(crate) struct DayReport {
    pub(crate) server: String,
    pub(crate) table: String,
    pub(crate) day: Day,
    pub(crate) rows: u64,
    /// When the server drops it.
    pub(crate) expires_at: String,
    /// `verified`, `due`, `not yet`, `uncovered`; `none` where the table is not archived.
    pub(crate) archive: &'static str,
    /// `verified`, `due`, `not yet`, `uncovered`; `none` where the table has no rollup.
    pub(crate) rollup: &'static str,
    /// Everything that is to outlive the rows does.
    pub(crate) covered: bool,
    /// What is wrong, or worth knowing.
    pub(crate) detail: String,
}

/// What one server's tables came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) days: Vec<DayReport>,
    pub(crate) tables: Vec<TableState>,
}

/// The work on one server, or with no archive, the plan of it: then nothing is changed and files are not read whole.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) http: &'a QuestDbHttp,
    /// Its name in the config.
    pub(crate) server: &'a str,
    /// Its days go to the archive.
    pub(crate) is_first: bool,
    pub(crate) config: &'a Config,
    pub(crate) specs: &'a [TableSpec],
    pub(crate) archive: Option<&'a Archive>,
    pub(crate) now: Timestamp,
}

struct Table<'a> {
    spec: &'a TableSpec,
    name: String,
    live: &'a LiveTable,
    ttl_days: u16,
}

impl Work<'_> {
    pub(crate) fn run(&self, state: &mut RetentionState) -> Result<Outcome> {
        let live = schema::read_live(self.http)?;
        let mut outcome = Outcome::default();
        for spec in self.specs {
            let name = spec.server_name(&self.config.tape.table_prefix);
            let Some(found) = live.0.get(&name) else { continue };
            // A table that is kept for ever loses nothing.
            let Some(hours) = found.ttl_hours else { continue };
            let ttl_days = u16::try_from(hours / 24).unwrap_or(u16::MAX);
            let table = Table { spec, name, live: found, ttl_days };
            self.table(&table, &live, state, &mut outcome)?;
        }
        Ok(outcome)
    }

    fn table(
        &self,
        table: &Table<'_>,
        live: &LiveTables,
        state: &mut RetentionState,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let days = retention::days_of(self.http, &table.name)?;
        let (mut uncovered, mut reports) = (Vec::new(), Vec::new());
        for (day, rows) in days {
            let closed = day.age(self.now).is_some_and(|age| age >= self.settings().archive_after_days);
            let (mut archive, mut rollup, mut details) = ("none", "none", Vec::new());
            if table.spec.importance == Importance::Critical {
                (archive, details) = if closed { self.archived(table, day, rows) } else { ("not yet", Vec::new()) };
            }
            if rollups().iter().any(|rollup| rollup.base == table.spec.name) {
                let (word, more) =
                    if closed { self.rolled_up(table, live, day, rows, state) } else { ("not yet", Vec::new()) };
                rollup = word;
                details.extend(more);
            }
            let covered = [archive, rollup].iter().all(|word| ["verified", "none"].contains(word));
            let detail = details.join("; ");
            if closed && !covered {
                let why = if detail.is_empty() {
                    "`tripod tape retention run` was not done yet".into()
                } else {
                    detail.clone()
                };
                uncovered.push(Uncovered { day, why });
            }
            let expires_at = String::new();
            let (server, table) = (self.server.to_owned(), table.name.clone());
            reports.push(DayReport { server, table, day, rows, expires_at, archive, rollup, covered, detail });
        }
        let ttl_days = self.hold(table, &uncovered)?;
        for report in &mut reports {
            report.expires_at = report.day.expires_at(ttl_days).to_string();
        }
        outcome.days.extend(reports);
        outcome.tables.push(TableState {
            server: self.server.to_owned(),
            table: table.name.clone(),
            wanted_days: table.spec.retain_days,
            ttl_days,
            uncovered,
        });
        Ok(())
    }

    fn settings(&self) -> &Retention {
        &self.config.retention
    }

    /// The TTL that the table has from now on. Only a critical one is held; another's TTL is `migrate`'s.
    fn hold(&self, table: &Table<'_>, uncovered: &[Uncovered]) -> Result<u16> {
        if table.spec.importance != Importance::Critical {
            return Ok(table.ttl_days);
        }
        let oldest = uncovered.iter().map(|uncovered| uncovered.day).min();
        // A day must live until it is looked at for the first time.
        let least = table.spec.retain_days.max(self.settings().archive_after_days.saturating_add(2));
        let wanted = retention::ttl_to_hold(least, oldest, self.now);
        if wanted != table.ttl_days && self.archive.is_some() {
            let name = &table.name;
            self.http.exec(&format!("ALTER TABLE \"{name}\" SET TTL {wanted} DAYS"))?;
            schema::wait_table(self.http, name, &|| format!("the TTL of {name}"))?;
        }
        Ok(if self.archive.is_some() { wanted } else { table.ttl_days })
    }

    fn archived(&self, table: &Table<'_>, day: Day, rows: u64) -> (&'static str, Vec<String>) {
        match self.archive_day(table, day, rows) {
            Ok((word, detail)) => (word, detail.into_iter().collect()),
            Err(error) => ("uncovered", vec![in_words(&error)]),
        }
    }

    fn archive_day(&self, table: &Table<'_>, day: Day, rows: u64) -> Result<(&'static str, Option<String>)> {
        let name = &table.name;
        let known = manifest(&self.settings().archive_dir, name, day)?;
        let Some(archive) = self.archive else {
            return Ok(match known {
                Some(manifest) if manifest.rows == rows => ("verified", None),
                Some(manifest) => ("due", Some(format!("the archive has {} rows of it", manifest.rows))),
                None => ("due", None),
            });
        };
        let columns = retention::columns_of(table.live)?;
        let source = source(self.http, table, &columns, day);
        if let Some(manifest) = &known {
            if let Some(damage) = damage(archive.dir(), manifest) {
                let way_out = format!("`tripod tape export {name} --day {day} --replace` writes it anew");
                return Ok(("uncovered", Some(format!("{damage}; {way_out}"))));
            }
            if self.is_equal(table, manifest, &source, rows)? {
                return Ok(("verified", None));
            }
            if rows < manifest.rows {
                let detail =
                    format!("the archive has {} rows of it, more than the server; nothing is replaced", manifest.rows);
                return Ok(("uncovered", Some(detail)));
            }
        }
        if !self.is_first {
            return Ok(("uncovered", Some("it differs from the archive, which is of the first server".into())));
        }
        archive.export(&source)?;
        Ok(("verified", None))
    }

    /// Whether the archive still has what the server has: by count, and by value where the day goes soon or comes from
    /// another server.
    fn is_equal(&self, table: &Table<'_>, manifest: &Manifest, source: &Source<'_>, rows: u64) -> Result<bool> {
        let goes_soon = source.day.age(self.now).is_some_and(|age| age + LAST_LOOK_DAYS >= table.spec.retain_days);
        if manifest.rows != rows {
            return Ok(false);
        }
        if !goes_soon && self.is_first {
            return Ok(true);
        }
        // By the columns that were archived: one that was added since is NULL in all of these rows.
        let there = |column: &super::Column| source.columns.iter().find(|own| own.name == column.name).cloned();
        let Some(columns) = manifest.columns.iter().map(there).collect::<Option<Vec<_>>>() else { return Ok(false) };
        let sum = Source { columns: &columns, ..*source }.sum()?;
        Ok(sum.rows == manifest.rows && sum.hex() == manifest.checksum)
    }

    fn rolled_up(
        &self,
        table: &Table<'_>,
        live: &LiveTables,
        day: Day,
        rows: u64,
        state: &mut RetentionState,
    ) -> (&'static str, Vec<String>) {
        let prefix = &self.config.tape.table_prefix;
        let (mut word, mut details) = ("verified", Vec::new());
        for rollup in rollups().into_iter().filter(|rollup| rollup.base == table.spec.name) {
            let key = format!("{}/{}/{day}", self.server, rollup.view(prefix));
            let mut mark = state.kept.get(&key).copied().filter(|mark| mark.rows == rows);
            if mark.is_none() && self.archive.is_some() {
                let kept = rollup.kept(1).server_name(prefix);
                if !live.0.contains_key(&kept) || !live.0.contains_key(&rollup.view(prefix)) {
                    word = "uncovered";
                    details.push(format!("there is no {kept}; run `tripod migrate`"));
                    continue;
                }
                match retention::keep_day(self.http, &rollup, prefix, day) {
                    Ok(kept) => {
                        let done = KeptMark { rows, view_agrees: kept.view_agrees };
                        state.kept.insert(key, done);
                        mark = Some(done);
                    }
                    Err(error) => {
                        word = "uncovered";
                        details.push(in_words(&error));
                        continue;
                    }
                }
            }
            match mark {
                None => word = if word == "verified" { "due" } else { word },
                Some(mark) if !mark.view_agrees => details.push(format!(
                    "the view {} differs from the rows; its table has what the rows say",
                    rollup.view(prefix)
                )),
                Some(_) => {}
            }
        }
        (word, details)
    }
}

fn source<'a>(
    http: &'a QuestDbHttp,
    table: &'a Table<'_>,
    columns: &'a [retention::ExactColumn],
    day: Day,
) -> Source<'a> {
    let designated = table.live.designated.as_deref().unwrap_or_default();
    Source { http, table: &table.name, designated, columns, day }
}

/// An error with its causes, in a line.
fn in_words(error: &tripod::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    crate::output::one_line(&words, 400)
}
