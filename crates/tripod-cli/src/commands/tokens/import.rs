//! `tripod tokens import FILE...`: what files say into the store, each entry taken, known, or refused with its reason.
//!
//! Constraints: every file is opened and its format known before the first is stored, so that a wrong name among them
//! changes nothing. A file is read front to back and may be larger than memory; one that is torn is stored up to there,
//! and exit 1 says that it was not whole. An import that was cut short is run again: what is there already is counted.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use serde::Serialize;
use tripod::tokens::import::{self, Options, Report, Source};
use tripod::tokens::{Address, Tokens};

use super::{Import, plain, postgres};
use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Refused entries that words show; `--json` has all.
const SHOWN_MAX: usize = 20;
/// What is looked at to tell a list from accounts, for the name of who says it.
const HEAD_BYTES: u64 = 64 * 1024;

#[derive(Debug, Serialize)]
struct Imported {
    files: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    file: String,
    #[serde(flatten)]
    report: Report,
}

pub(super) async fn run(arguments: &Import, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let store = Tokens::new(postgres(global)?);
    let mut opened = Vec::new();
    for file in &arguments.files {
        opened.push((file, open(file).with_context(|| format!("cannot import {}", file.display()))?));
    }
    let mut imported = Imported { files: Vec::new() };
    for (file, (source, is_list)) in opened {
        let options = options(arguments, file, is_list);
        let spinner = output.spinner(&format!("storing {}", file.display()));
        let report = import::import(&store, source, &options, |stored| {
            let so_far = stored.new + stored.changed + stored.unchanged + stored.older;
            spinner.set_message(format!("storing {}: {so_far} so far", file.display()));
        })
        .await;
        spinner.finish_and_clear();
        let report = report.with_context(|| format!("cannot store {}", file.display()))?;
        imported.files.push(FileReport { file: file.display().to_string(), report });
    }
    output.result(&imported, || words(&imported))?;
    warn(arguments, &imported, output);
    Ok(if imported.files.iter().any(|file| is_in_vain(&file.report)) { Exit::False } else { Exit::Done })
}

/// Not whole, or nothing at all could be taken.
fn is_in_vain(report: &Report) -> bool {
    let stored = &report.stored;
    report.torn.is_some()
        || (stored.new + stored.changed + stored.unchanged + stored.older == 0 && !report.refused.is_empty())
}

fn open(file: &Path) -> anyhow::Result<(Source, bool)> {
    let opened = File::open(file).map_err(|error| {
        Stop::usage(
            format!("{}: {error}", file.display()),
            "name files that can be read; see samples/mints and samples/tokens",
        )
    })?;
    let mut plain = BufReader::new(opened);
    let is_gzip = plain.fill_buf().is_ok_and(|bytes| bytes.starts_with(&[0x1f, 0x8b]));
    let mut source: Box<dyn Read + Send> = if is_gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
    // A list names itself early; the name of who says it is needed before the first entry.
    let mut head = Vec::new();
    source.by_ref().take(HEAD_BYTES).read_to_end(&mut head).with_context(|| "cannot be read")?;
    let text = String::from_utf8_lossy(&head);
    let is_list = !text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with(['{', '['])
        || text.contains("\"tokens\"");
    Ok((import::open(std::io::Cursor::new(head).chain(source))?, is_list))
}

fn options(arguments: &Import, file: &Path, is_list: bool) -> Options {
    let kind = if is_list { "list" } else { "file" };
    let mut options = Options::new(arguments.source.clone().unwrap_or_else(|| format!("{kind}:{}", stem(file))));
    options.chain = arguments.chain;
    options.slot = arguments.slot;
    options.address = stem(file).parse::<Address>().ok();
    options
}

fn warn(arguments: &Import, imported: &Imported, output: Output) {
    // Without a slot nobody can tell which of two observations is the newer one: the first that came would stay for ever.
    let without: usize = imported.files.iter().map(|file| file.report.without_slot).sum();
    if without > 0 && arguments.slot == 0 {
        output.say(format!(
            "note: {without} accounts come without a slot and count as the oldest there can be; --slot N says when they \
             were read"
        ));
    }
    for file in &imported.files {
        if let Some(why) = &file.report.torn {
            let (file, entries) = (&file.file, file.report.entries());
            output.say(format!(
                "error: {file} is not whole: {}\nhint: the {entries} entries before it are stored or counted; mend the \
                 file and import it again: what is there already is found",
                plain(why)
            ));
        }
    }
}

/// The file's name up to its first dot.
fn stem(file: &Path) -> &str {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('.').next().unwrap_or_default()
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
            report.refused.len() + report.refused_beyond,
        ];
        let cells = [file.file.clone(), report.kind.as_str().to_owned()];
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
        text += &format!("and {} more; --json lists them\n", refused.len() - SHOWN_MAX);
    }
    text
}
