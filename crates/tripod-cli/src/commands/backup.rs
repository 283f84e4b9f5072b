//! `tripod backup create`, `ls`, `verify`, `restore`, `prune`.

use serde::Serialize;
use tripod::Timestamp;

use crate::args::{Backup as Command, Chosen, Global, Prune, Restore};
use crate::backup::manifest::{Manifest, Proof, TableCheck};
use crate::backup::prune::Fate;
use crate::backup::restore::{Restored, RowsSince, Wish};
use crate::backup::site::Ground;
use crate::backup::store::{Backup, Broken, Store};
use crate::backup::{Part, Shown, create, prune, restore, verify};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// The contract of `create`, `ls`, `verify` and `restore`.
#[derive(Debug, Serialize)]
struct Document {
    id: String,
    /// `create`: made. `ls`: can be read. `verify`: everything is as it was. `restore`: in place, and no row is missing.
    ok: bool,
    /// The cut of QuestDB.
    at: Option<String>,
    dir: String,
    stores: Vec<StoreRow>,
    tables: Vec<TableCheck>,
    /// From nothing to servers that answer on the data.
    restore_s: Option<f64>,
    /// From the first store's cut to the last one's.
    skew_ms: Option<u64>,
    proven_at: Option<String>,
    problems: Vec<String>,
    #[serde(flatten)]
    restored: Option<RestoredFields>,
}

#[derive(Debug, Serialize)]
struct StoreRow {
    name: &'static str,
    /// Tables, or keys.
    objects: u64,
    /// On the disk of the backup.
    bytes: u64,
}

/// What only `restore` says.
#[derive(Debug, Serialize)]
struct RestoredFields {
    /// Seconds without servers.
    down_s: f64,
    /// From when rows are missing; null where the journals bring all of them.
    rows_missing_from: Option<String>,
    rows: Option<RowsSince>,
    postgres: Option<crate::backup::postgres::Recovered>,
}

impl Document {
    fn of(backup: &Backup) -> Self {
        let manifest = &backup.manifest;
        Self {
            id: manifest.id.clone(),
            ok: true,
            at: Some(manifest.cut.questdb_at.to_string()),
            dir: backup.dir.display().to_string(),
            stores: stores(manifest),
            tables: manifest.tables(),
            restore_s: None,
            skew_ms: Some(manifest.cut.skew_ms),
            proven_at: backup.proven_at().map(|at| at.to_string()),
            problems: Vec::new(),
            restored: None,
        }
    }

    fn proven(backup: &Backup, proof: &Proof) -> Self {
        Self {
            ok: proof.ok,
            tables: proof.tables.clone(),
            restore_s: (proof.restore_ms > 0).then(|| seconds(proof.restore_ms)),
            problems: proof.problems.clone(),
            ..Self::of(backup)
        }
    }

    fn broken(store: &Store, broken: &Broken) -> Self {
        Self {
            id: broken.id.clone(),
            ok: false,
            at: None,
            dir: store.dir().join(&broken.id).display().to_string(),
            stores: Vec::new(),
            tables: Vec::new(),
            restore_s: None,
            skew_ms: None,
            proven_at: None,
            problems: vec![broken.why.clone()],
            restored: None,
        }
    }
}

fn stores(manifest: &Manifest) -> Vec<StoreRow> {
    let row =
        |part: Part| StoreRow { name: part.as_str(), objects: manifest.objects(part), bytes: manifest.stored(part) };
    Part::ALL.map(row).into()
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

pub(super) fn run(command: &Command, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::Create => make(global, output),
        Command::Ls => list(global, output),
        Command::Verify(chosen) => prove(chosen, global, output),
        Command::Restore(arguments) => put_back(arguments, global, output),
        Command::Prune(arguments) => remove(arguments, global, output),
    }
}

fn make(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let ground = Ground::of(global)?;
    let bar = output.progress("backup", 0);
    let made = create::create(&ground, Shown::new(&bar));
    bar.finish_and_clear();
    let backup = made?;
    output.result(&Document::of(&backup), || {
        let manifest = &backup.manifest;
        let mut text = stores_words(&stores(manifest));
        text +=
            &format!("\nat          {} (three stores within {} ms)\n", manifest.cut.questdb_at, manifest.cut.skew_ms);
        text += &format!("took        {:.1} s\n", manifest.finished_at.since(manifest.begun_at).as_secs_f64());
        for (exact, store) in [(manifest.postgres.exact, "PostgreSQL"), (manifest.events.exact, "Redis")] {
            if !exact {
                text += &format!(
                    "note        {store} was written to in that moment, each time: its counts are not compared\n"
                );
            }
        }
        for left_out in &manifest.left_out {
            text += &format!("left out    {left_out}\n");
        }
        format!("{text}backup {} in {}\nnext        tripod backup verify", manifest.id, backup.dir.display())
    })?;
    Ok(Exit::Done)
}

fn stores_words(stores: &[StoreRow]) -> String {
    let mut table = output::table(&["store", "objects", "size"]);
    for store in stores {
        table.add_row([store.name.to_owned(), store.objects.to_string(), output::mebibytes(store.bytes)]);
    }
    output::align_right(&mut table, 1..3);
    output::table_text(&table)
}

fn list(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let store = Store::new(&config.backup.dir);
    let found = store.list()?;
    let documents: Vec<_> = found
        .iter()
        .map(|found| match found {
            Ok(backup) => match &backup.proof {
                Some(proof) => Document { ok: true, ..Document::proven(backup, proof) },
                None => Document::of(backup),
            },
            Err(broken) => Document::broken(&store, broken),
        })
        .collect();
    output.result(&documents, || {
        if documents.is_empty() {
            return format!("there is no backup in {}; `tripod backup create` makes one", store.dir().display());
        }
        let mut table = output::table(&["backup", "of", "size", "proven", ""]);
        for document in &documents {
            let bytes = document.stores.iter().map(|store| store.bytes).sum();
            let proven = match (&document.proven_at, document.problems.first()) {
                (Some(at), _) => at.get(..19).map_or_else(|| at.clone(), |at| format!("{at}Z")),
                (None, Some(_)) => "NO".to_owned(),
                (None, None) => "not yet".to_owned(),
            };
            table.add_row([
                document.id.clone(),
                document.at.as_deref().and_then(|at| at.get(..19)).map(|at| format!("{at}Z")).unwrap_or_default(),
                output::mebibytes(bytes),
                proven,
                document.problems.first().cloned().unwrap_or_default(),
            ]);
        }
        output::align_right(&mut table, 2..3);
        output::table_text(&table)
    })?;
    Ok(if found.iter().all(Result::is_ok) { Exit::Done } else { Exit::False })
}

fn prove(chosen: &Chosen, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let store = Store::new(&config.backup.dir);
    let bar = output.progress("proof", 0);
    let proven = verify::verify(&store, chosen.id.as_deref(), Shown::new(&bar));
    bar.finish_and_clear();
    let (backup, proof) = proven?;
    output.result(&Document::proven(&backup, &proof), || proof_words(&proof))?;
    Ok(if proof.ok { Exit::Done } else { Exit::False })
}

fn proof_words(proof: &Proof) -> String {
    let mut text = String::new();
    if !proof.tables.is_empty() {
        text += &tables_words(&proof.tables);
        text += &format!("\nrestored    in {:.1} s, on servers of its own\n", seconds(proof.restore_ms));
    }
    for problem in &proof.problems {
        text += &format!("WRONG: {problem}\n");
    }
    match proof.ok {
        true => format!("{text}PROVEN: backup {} restores to what was there", proof.id),
        false => format!("{text}NOT PROVEN: backup {}; `tripod backup create` makes another one", proof.id),
    }
}

fn tables_words(tables: &[TableCheck]) -> String {
    let mut table = output::table(&["store", "table", "expected", "restored", "compared"]);
    // Dozens of partitions and empty tables say nothing.
    for one in tables.iter().filter(|one| one.expected > 0 || one.restored != Some(0)) {
        table.add_row([
            one.store.as_str().to_owned(),
            one.name.clone(),
            one.expected_in_words(),
            one.restored.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
            one.compared.to_string(),
        ]);
    }
    output::align_right(&mut table, 2..5);
    output::table_text(&table)
}

fn put_back(arguments: &Restore, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let ground = Ground::of(global)?;
    let wish =
        Wish { id: arguments.backup.id.clone(), overwrite: arguments.yes, to: arguments.to, only: arguments.only };
    let bar = output.progress("restore", 0);
    let restored = restore::restore(&ground, &wish, Shown::new(&bar));
    bar.finish_and_clear();
    let restored = restored?;
    let missing = restored.rows.as_ref().and_then(RowsSince::missing_from);
    let document = Document {
        ok: missing.is_none(),
        tables: restored.tables.clone(),
        restore_s: Some(restored.took.as_secs_f64()),
        restored: Some(RestoredFields {
            down_s: restored.down.as_secs_f64(),
            rows_missing_from: missing.map(|at| at.to_string()),
            rows: restored.rows.clone(),
            postgres: restored.recovered.clone(),
        }),
        ..Document::of(&restored.backup)
    };
    output.result(&document, || restored_words(&restored, missing))?;
    Ok(if missing.is_none() { Exit::Done } else { Exit::False })
}

fn restored_words(restored: &Restored, missing: Option<Timestamp>) -> String {
    let manifest = &restored.backup.manifest;
    let mut text = tables_words(&restored.tables);
    text += &format!(
        "\nrestored    backup {} in {:.1} s, of which {:.1} s without servers\n",
        manifest.id,
        restored.took.as_secs_f64(),
        restored.down.as_secs_f64()
    );
    if let Some(recovered) = &restored.recovered {
        let timeline = recovered.timeline;
        text += &match recovered.at_time {
            Some(at) => format!("PostgreSQL  its last transaction is of {at}; it goes on as timeline {timeline}\n"),
            None => format!("PostgreSQL  as it was at the backup; it goes on as timeline {timeline}\n"),
        };
    }
    if restored.parts.contains(&Part::Events) {
        text += &format!("events      as they were at {}\n", manifest.cut.events_at);
    }
    let Some(rows) = &restored.rows else { return text };
    text += &format!("rows        as a SELECT returned them at {}\n", rows.since);
    let Some(missing) = missing else {
        return text
            + "since then  the journals have every row; the sinks of running bots deliver them again by themselves, \
               for a bot that does not run `tripod deliver` does";
    };
    if rows.journals.is_empty() {
        return format!(
            "{text}MISSING: every row recorded after {missing}: there is no journal on this machine\n\
             hint: where a bot on another machine has its journal, its sinks deliver again by themselves"
        );
    }
    for journal in rows.journals.iter().filter(|journal| !journal.whole) {
        let begun = journal.begun_at.as_deref().map_or_else(String::new, |at| format!(" (it was begun at {at})"));
        text += &format!(
            "MISSING: rows of {} ({}) recorded after {missing}, up to where its journal begins{begun}\n",
            journal.bot,
            journal.class.as_str()
        );
    }
    text + "hint: `tripod status` shows what each sink could not bring, once it has looked"
}

#[derive(Debug, Serialize)]
struct Pruned {
    backups: Vec<Fate>,
    /// Files of PostgreSQL's archive.
    archive_files: u64,
    done: bool,
    ok: bool,
}

fn remove(arguments: &Prune, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let ground = Ground::of(global)?;
    let store = Store::new(ground.backups());
    let (fates, broken) = prune::plan(&store, arguments.keep, arguments.keep_days)?;
    for one in &broken {
        output.say(format!("note: {} cannot be read and is left alone: {}", one.id, one.why));
    }
    let going = fates.iter().filter(|fate| fate.kept.is_none()).count();
    let (fates, archive) = match arguments.yes {
        true => prune::prune(&ground, arguments.keep, arguments.keep_days)?,
        false => (fates, crate::backup::postgres::Pruned::default()),
    };
    let pruned = Pruned { backups: fates, archive_files: archive.files, done: arguments.yes, ok: true };
    output.result(&pruned, || {
        let mut table = output::table(&["backup", "size", ""]);
        for fate in &pruned.backups {
            let word = match (fate.kept, arguments.yes) {
                (Some(why), _) => format!("stays: {why}"),
                (None, true) => "removed".to_owned(),
                (None, false) => "would go".to_owned(),
            };
            table.add_row([fate.id.clone(), output::mebibytes(fate.bytes), word]);
        }
        output::align_right(&mut table, 1..2);
        output::table_text(&table)
    })?;
    if going > 0 && !arguments.yes {
        return Err(Stop::refused(
            format!("{} would be removed", output::counted(going, "backup")),
            "say --yes if that is meant",
        )
        .into());
    }
    Ok(Exit::Done)
}
