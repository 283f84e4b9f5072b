//! The tables of one journal, by schema id: what a record's bytes mean and where they go.
//!
//! Constraints: read from the journal and not from this process's types, so that a sink delivers rows of tables it has
//! no code for, and rows that an older version recorded by their own spec. Cheap to share with the thread that encodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tripod_journal::SchemaId;

use crate::config::Retention;
use crate::error::{Error, Result};
use crate::tape::spec::TableSpec;

/// One table as this sink writes it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) spec: TableSpec,
    /// Its name on the server: prefix and name.
    pub(super) name: String,
}

/// All tables known so far. Cloned cheaply; [`Catalog::find`] reads the file again for an id it has not seen.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    dir: PathBuf,
    prefix: String,
    retention: Retention,
    tables: Arc<Vec<(SchemaId, Table)>>,
}

impl Catalog {
    /// Reads the catalog of the journal in `dir`.
    ///
    /// # Errors
    /// As [`specs`].
    pub(super) fn open(dir: &Path, prefix: &str, retention: &Retention) -> Result<Self> {
        let (dir, prefix, retention) = (dir.to_owned(), prefix.to_owned(), retention.clone());
        let mut catalog = Self { dir, prefix, retention, tables: Arc::new(Vec::new()) };
        catalog.reload()?;
        Ok(catalog)
    }

    /// A catalog of these tables, without a journal.
    #[cfg(test)]
    pub(super) fn of(tables: impl IntoIterator<Item = (SchemaId, TableSpec)>) -> Self {
        let table = |spec: TableSpec| Table { name: spec.name.clone(), spec };
        let tables = tables.into_iter().map(|(id, spec)| (id, table(spec))).collect();
        Self { dir: PathBuf::new(), prefix: String::new(), retention: Retention::default(), tables: Arc::new(tables) }
    }

    /// The table, where it is known.
    pub(super) fn table(&self, schema: SchemaId) -> Option<&Table> {
        self.tables.iter().find(|(id, _)| *id == schema).map(|(_, table)| table)
    }

    /// The table; one that was registered after the last look is read from the file.
    pub(super) fn find(&mut self, schema: SchemaId) -> Option<&Table> {
        if self.table(schema).is_none()
            && let Err(e) = self.reload()
        {
            tracing::error!(error = %e, "the journal's catalog cannot be read");
        }
        self.table(schema)
    }

    /// The names on the server of all tables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|(_, table)| table.name.as_str())
    }

    fn reload(&mut self) -> Result<()> {
        let tables = specs(&self.dir)?
            .into_iter()
            .map(|(id, spec)| {
                let name = format!("{}{}", self.prefix, spec.name);
                // What the server will drop is judged by what the config keeps, not by what the bot was built with.
                (id, Table { spec: self.retention.applied_to(&spec), name })
            })
            .collect();
        self.tables = Arc::new(tables);
        Ok(())
    }
}

/// The specs that the journal in `dir` was written with.
///
/// # Errors
/// [`Error::Journal`] where the catalog cannot be read, [`Error::Invalid`] where an entry is not a spec.
pub(crate) fn specs(dir: &Path) -> Result<Vec<(SchemaId, TableSpec)>> {
    let catalog = tripod_journal::Catalog::read(dir)?;
    catalog
        .entries()
        .iter()
        .map(|entry| {
            let spec = TableSpec::from_json(&entry.text).map_err(|e| {
                Error::invalid(format!("the spec of {} in {}", entry.name, dir.display()), e.to_string())
            })?;
            Ok((entry.id, spec))
        })
        .collect()
}
