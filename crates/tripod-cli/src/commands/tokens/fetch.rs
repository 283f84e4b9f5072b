//! `tripod tokens fetch --rpc URL MINT…`: mint accounts from a node into the store.
//!
//! Constraints: the node's address may hold a key: of it, scheme and host are shown. Each answer is stored before the next
//! question is asked, so that what stands in the summary is in the store, also where the node goes away in the middle;
//! `--since SLOT` then goes on without asking for the same again.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use tripod::tokens::fetch::{FetchError, Node, NodeOptions};
use tripod::tokens::import::Refused;
use tripod::tokens::{Address, Summary, Tokens};

use super::{Fetch, plain, postgres};
use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Addresses of one run at most; 32 bytes each.
const MINTS_MAX: usize = 5_000_000;
/// Bytes of a line at most: an address has 44.
const LINE_BYTES_MAX: u64 = 4_096;
/// Refused entries that words show; `--json` has all.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Serialize)]
struct Fetched {
    /// Scheme and host.
    node: String,
    /// Different mints that were named.
    named: usize,
    /// Of them: seen by the store since `--since`, so not asked for.
    skipped: usize,
    #[serde(flatten)]
    stored: Summary,
    /// Places count arguments, then lines, from 0.
    refused: Vec<Refused>,
    /// The slot of the first answer, as text; none where nothing was asked.
    first_slot: Option<String>,
    /// Of the last one.
    last_slot: Option<String>,
    /// Why it ended before the end.
    stopped: Option<String>,
}

/// What was named: mints with their places, each once.
#[derive(Debug, Default)]
struct Named {
    mints: Vec<(usize, Address)>,
    known: HashSet<Address>,
    refused: Vec<Refused>,
    repeated: usize,
    place: usize,
}

impl Named {
    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        match text.parse::<Address>() {
            Ok(mint) if self.known.insert(mint) => self.mints.push((self.place, mint)),
            Ok(_) => self.repeated += 1,
            Err(_) => {
                let why = "the address is not base58 of 32 bytes".to_owned();
                self.refused.push(Refused { place: self.place, entry: output::one_line(text, 100), why });
            }
        }
        self.place += 1;
        if self.place > MINTS_MAX {
            let hint = "split the list";
            return Err(Stop::usage(format!("more than {MINTS_MAX} addresses"), hint).into());
        }
        Ok(())
    }

    fn read(&mut self, source: impl Read) -> anyhow::Result<()> {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.split('#').next().unwrap_or_default().trim();
            if !text.is_empty() {
                self.add(text)?;
            }
        }
    }
}

pub(super) async fn run(arguments: Fetch, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let node = Node::new(arguments.rpc.into(), NodeOptions::default()).map_err(|error| stop(&error))?;
    let mut named = Named::default();
    for mint in &arguments.mints {
        named.add(mint)?;
    }
    match arguments.from.as_deref() {
        None => {}
        Some(file) if file == Path::new("-") => named.read(std::io::stdin().lock()).context("cannot read stdin")?,
        Some(file) => {
            let opened = std::fs::File::open(file).map_err(|error| {
                Stop::usage(format!("{}: {error}", file.display()), "name a file with an address on each line")
            })?;
            named.read(opened).with_context(|| format!("cannot read {}", file.display()))?;
        }
    }
    let store = Tokens::new(postgres(global)?);
    let mut fetched = Fetched {
        node: node.shown().to_owned(),
        named: named.mints.len(),
        skipped: 0,
        stored: Summary { repeated: named.repeated, ..Summary::default() },
        refused: std::mem::take(&mut named.refused),
        first_slot: None,
        last_slot: None,
        stopped: None,
    };
    let bar = output.progress("asking for accounts", u64::try_from(named.mints.len())?);
    let source = format!("rpc:{}", node.shown());
    let mut ended = Ok(());
    for batch in named.mints.chunks(usize::from(arguments.batch)) {
        let asked = left(&store, batch, arguments.since).await?;
        fetched.skipped += batch.len() - asked.len();
        let mints: Vec<Address> = asked.iter().map(|(_, mint)| *mint).collect();
        let waiting = |why: &str, pause: std::time::Duration| {
            bar.set_message(format!("waits {pause:.0?}: {}", output::one_line(why, 60)));
        };
        let answer = match node.accounts(&mints, waiting).await {
            Ok(answer) => answer,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        bar.set_message("asking for accounts");
        if !mints.is_empty() {
            let slot = answer.slot.to_string();
            fetched.first_slot.get_or_insert_with(|| slot.clone());
            fetched.last_slot = Some(slot);
        }
        fetched.stored += store.store(&answer.observations, &source).await?;
        // Places are those of what was named.
        fetched.refused.extend(answer.refused.into_iter().map(|refused| Refused {
            place: asked.get(refused.place).map_or(refused.place, |(place, _)| *place),
            ..refused
        }));
        bar.inc(u64::try_from(batch.len())?);
    }
    bar.finish_and_clear();
    fetched.stopped = ended.as_ref().err().map(ToString::to_string);
    if fetched.first_slot.is_none()
        && let Err(error) = ended
    {
        // Nothing was fetched at all: an error like any other.
        return Err(stop(&error));
    }
    output.result(&fetched, || words(&fetched))?;
    let exit = match ended {
        Ok(()) if fetched.refused.is_empty() => Exit::Done,
        // Somebody asked for what is not there.
        Ok(()) => Exit::False,
        Err(error) => {
            let since = fetched.first_slot.as_deref().unwrap_or("0");
            output.say(format!(
                "error: {error}\nhint: what it answered until then is stored; the same command with --since {since} asks \
                 for the rest"
            ));
            exit_of(&error)
        }
    };
    Ok(exit)
}

/// Those of a batch that the store has not seen since.
async fn left(store: &Tokens, batch: &[(usize, Address)], since: Option<u64>) -> tripod::Result<Vec<(usize, Address)>> {
    let Some(since) = since else { return Ok(batch.to_vec()) };
    let mints: Vec<Address> = batch.iter().map(|(_, mint)| *mint).collect();
    let seen = store.get_many(&mints).await?;
    let fresh: HashSet<Address> =
        seen.iter().filter(|token| token.program.is_some() && token.slot >= since).map(|token| token.mint).collect();
    Ok(batch.iter().filter(|(_, mint)| !fresh.contains(mint)).copied().collect())
}

fn exit_of(error: &FetchError) -> Exit {
    match error {
        FetchError::Address(_) => Exit::Usage,
        FetchError::Away { .. } => Exit::Unreachable,
        _ => Exit::False,
    }
}

fn stop(error: &FetchError) -> anyhow::Error {
    let hint = match error {
        FetchError::Address(_) => "--rpc https://HOST/… or TRIPOD_RPC_URL names a node",
        FetchError::Away { .. } => "try again later, ask for less at once (--batch N), or name another node",
        FetchError::Refused { .. } => "check the node's address and key; it has to serve getMultipleAccounts",
        _ => "is it the address of a node's JSON-RPC?",
    };
    Stop { exit: exit_of(error), what: error.to_string(), hint: hint.to_owned() }.into()
}

fn words(fetched: &Fetched) -> String {
    let stored = &fetched.stored;
    let header = ["node", "named", "new", "changed", "unchanged", "older", "repeated", "skipped", "refused"];
    let mut table = output::table(&header);
    let counts = [
        fetched.named,
        stored.new,
        stored.changed,
        stored.unchanged,
        stored.older,
        stored.repeated,
        fetched.skipped,
        fetched.refused.len(),
    ];
    table.add_row([fetched.node.clone()].into_iter().chain(counts.iter().map(ToString::to_string)));
    output::align_right(&mut table, 1..header.len());
    let mut text = output::table_text(&table);
    for refused in fetched.refused.iter().take(SHOWN_MAX) {
        text += &format!("refused: {}: {}\n", plain(&refused.entry), plain(&refused.why));
    }
    if fetched.refused.len() > SHOWN_MAX {
        text += &format!("and {} more; --json lists all\n", fetched.refused.len() - SHOWN_MAX);
    }
    if let (Some(first), Some(last)) = (&fetched.first_slot, &fetched.last_slot) {
        text += &format!("answered for the slots {first} to {last}\n");
    }
    text
}
