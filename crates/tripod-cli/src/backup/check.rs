//! What restored servers have, against what the manifest says they had.

use std::collections::BTreeMap;

use tripod::tape::questdb::QuestDbHttp;

use super::events::Server;
use super::manifest::{Manifest, Relation, TableCheck};
use super::postgres::PgPlace;
use super::{Part, Shown, questdb, reference};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) tables: Vec<TableCheck>,
    pub(super) problems: Vec<String>,
}

impl Checked {
    /// QuestDB; with `by_value` each row of the spans that stood still.
    pub(super) fn questdb(
        &mut self,
        http: &QuestDbHttp,
        manifest: &Manifest,
        by_value: bool,
        shown: Shown<'_>,
    ) -> anyhow::Result<()> {
        if !questdb::has_barrier(http, &manifest.cut.barrier)? {
            self.problems.push("QuestDB: the barrier is not there: it is of another moment".to_owned());
        }
        let rows =
            manifest.questdb.tables.iter().map(|table| table.spans.iter().map(|span| span.rows).sum::<u64>()).sum();
        shown.step("QuestDB: comparing rows", by_value.then_some(rows));
        for table in &manifest.questdb.tables {
            let found = questdb::examine(http, table, by_value, shown)?;
            self.problems.extend(found.problems.into_iter().map(|problem| format!("QuestDB: {problem}")));
            self.tables.push(TableCheck {
                store: Part::Questdb,
                name: table.name.clone(),
                expected: table.rows,
                expected_most: table.rows_most,
                restored: found.rows,
                compared: found.compared,
            });
        }
        let views = questdb::invalid_views(http, &manifest.questdb.views)?;
        self.problems.extend(views.into_iter().map(|problem| format!("QuestDB: {problem}")));
        Ok(())
    }

    /// PostgreSQL at its restore point.
    pub(super) fn postgres(&mut self, place: &PgPlace, manifest: &Manifest) -> anyhow::Result<()> {
        if !reference::has_barrier(place, &manifest.cut.barrier)? {
            self.problems.push("PostgreSQL: the barrier is not there: it is of another moment".to_owned());
        }
        let found = reference::look(place)?;
        let found: BTreeMap<&str, &Relation> = found.iter().map(|table| (table.name.as_str(), table)).collect();
        for table in &manifest.postgres.tables {
            let there = found.get(table.name.as_str());
            let same = there.is_some_and(|there| (there.rows, &there.sum) == (table.rows, &table.sum));
            match there {
                None => self.problems.push(format!("PostgreSQL: table {} is not there", table.name)),
                // Where somebody wrote in the very moment, the counts are of a moment beside it.
                Some(there) if !same && manifest.postgres.exact => self.problems.push(format!(
                    "PostgreSQL: table {} has {} rows and had {}, or other values in them",
                    table.name, there.rows, table.rows
                )),
                Some(_) => {}
            }
            self.tables.push(TableCheck {
                store: Part::Postgres,
                name: table.name.clone(),
                expected: table.rows,
                expected_most: manifest.postgres.exact.then_some(table.rows),
                restored: there.map(|there| there.rows),
                compared: if same { table.rows } else { 0 },
            });
        }
        Ok(())
    }

    /// Redis as its snapshot is loaded.
    pub(super) fn events(&mut self, server: &mut Server, manifest: &Manifest) -> anyhow::Result<()> {
        if !server.has_barrier(&manifest.cut.barrier)? {
            self.problems.push("Redis: the barrier is not there: it is of another moment".to_owned());
        }
        let (had, has) = (&manifest.events.held, server.look()?);
        if manifest.events.exact && has.keys != had.keys {
            self.problems.push(format!("Redis: {} keys, and there were {}", has.keys, had.keys));
        }
        for (key, stream) in &had.streams {
            let there = has.streams.get(key);
            match there {
                None => self.problems.push(format!("Redis: stream {key} is not there")),
                Some(there) if there != stream && manifest.events.exact => self.problems.push(format!(
                    "Redis: stream {key} has {} entries and had {}, or other ids or groups",
                    there.length, stream.length
                )),
                Some(_) => {}
            }
            self.tables.push(TableCheck {
                store: Part::Events,
                name: key.clone(),
                expected: stream.length,
                expected_most: manifest.events.exact.then_some(stream.length),
                restored: there.map(|there| there.length),
                // Redis itself has compared the sum over its snapshot.
                compared: there.filter(|there| *there == stream).map_or(0, |there| there.length),
            });
        }
        Ok(())
    }
}
