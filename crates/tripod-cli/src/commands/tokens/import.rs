//! `tripod tokens import FILE...`: what files say into the store, each entry taken, known, or refused with its reason.
//!
//! Constraints: every file is read before the first is stored, so that a wrong name among them changes nothing. An
//! import that was cut short is run again: what is there already is found and counted.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use serde::Serialize;
use tripod::tokens::Tokens;
use tripod::tokens::import::{self, Contents, DumpHints, Report};

use super::{Import, plain, postgres};
use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Refused entries that words show; `--json` has all.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Serialize)]
struct Imported {
    files: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    file: String,
    kind: &'static str,
    #[serde(flatten)]
    report: Report,
}

pub(super) async fn run(arguments: &Import, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let store = Tokens::new(postgres(global)?);
    let mut contents = Vec::new();
    for file in &arguments.files {
        contents.push((file, read(file, arguments).with_context(|| format!("cannot import {}", file.display()))?));
    }
    warn_of_slots(arguments, &contents, output);
    let mut imported = Imported { files: Vec::new() };
    for (file, contents) in contents {
        let kind = contents.kind();
        let name = arguments.source.clone().unwrap_or_else(|| source_name(file, &contents));
        let spinner = output.spinner(&format!("storing {}", file.display()));
        let report = import::store(&store, contents, &name).await;
        spinner.finish_and_clear();
        let report = report.with_context(|| format!("cannot store {}", file.display()))?;
        imported.files.push(FileReport { file: file.display().to_string(), kind, report });
    }
    output.result(&imported, || words(&imported))?;
    // A file of which nothing at all could be taken is no import.
    let in_vain = imported.files.iter().any(|file| {
        let stored = &file.report.stored;
        stored.new + stored.changed + stored.unchanged + stored.older == 0 && !file.report.refused.is_empty()
    });
    Ok(if in_vain { Exit::False } else { Exit::Done })
}

fn read(file: &Path, arguments: &Import) -> anyhow::Result<Contents> {
    let opened = File::open(file).map_err(|error| {
        Stop::usage(
            format!("{}: {error}", file.display()),
            "name files that can be read; see samples/mints and samples/tokens",
        )
    })?;
    let mut plain = BufReader::new(opened);
    let is_gzip = plain.fill_buf().is_ok_and(|bytes| bytes.starts_with(&[0x1f, 0x8b]));
    let source: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
    let address = stem(file).parse().ok();
    Ok(import::read(source, arguments.chain, &DumpHints::new(arguments.slot, address))?)
}

/// Without a slot nobody can tell which of two observations is the newer one: the first that came would stay for ever.
fn warn_of_slots(arguments: &Import, contents: &[(&PathBuf, Contents)], output: Output) {
    let without: usize = contents
        .iter()
        .map(|(_, contents)| match contents {
            Contents::Accounts(dump) => dump.without_slot,
            _ => 0,
        })
        .sum();
    if without > 0 && arguments.slot == 0 {
        output.say(format!(
            "note: {without} accounts come without a slot and count as the oldest there can be; --slot N says when they \
             were read"
        ));
    }
}

/// The file's name up to its first dot.
fn stem(file: &Path) -> &str {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('.').next().unwrap_or_default()
}

fn source_name(file: &Path, contents: &Contents) -> String {
    match contents {
        Contents::Accounts(_) => format!("file:{}", stem(file)),
        _ => format!("list:{}", stem(file)),
    }
}

fn words(imported: &Imported) -> String {
    let header =
        ["file", "kind", "new", "changed", "unchanged", "older", "repeated", "other chains", "balances", "refused"];
    let mut table = output::table(&header);
    for file in &imported.files {
        let (report, stored) = (&file.report, &file.report.stored);
        let counts = [
            stored.new,
            stored.changed,
            stored.unchanged,
            stored.older,
            stored.repeated,
            report.other_chains,
            report.token_accounts,
            report.refused.len(),
        ];
        let cells = [file.file.clone(), file.kind.to_owned()];
        table.add_row(cells.into_iter().chain(counts.iter().map(ToString::to_string)));
    }
    output::align_right(&mut table, 2..header.len());
    let mut text = output::table_text(&table);
    let refused: Vec<_> = imported.files.iter().flat_map(|f| f.report.refused.iter().map(move |r| (f, r))).collect();
    for (file, refused) in refused.iter().take(SHOWN_MAX) {
        let (place, entry) = (refused.place, plain(&refused.entry));
        text += &format!("refused: {} entry {place} {entry}: {}\n", file.file, plain(&refused.why));
    }
    if refused.len() > SHOWN_MAX {
        text += &format!("and {} more; --json lists all\n", refused.len() - SHOWN_MAX);
    }
    text
}
