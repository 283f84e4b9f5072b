//! `tripod status --watch`: the same screen, in place, each second.
//!
//! Constraints: no flicker: each line is written over the one that was there and cleared behind its end, nothing is cleared
//! first; what does not fit on the terminal is cut, so that nothing scrolls. The terminal is given back as it was at ^C.
//! Where stdout is no terminal, a screen is printed when something has changed but for times and counters of work, and
//! with `--json` a document a line each second.

use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use anyhow::Context as _;
use console::Term;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::{Status, look, words};
use crate::args::Global;
use crate::exit::{Exit, sentence};
use crate::output::{self, Output};

const EVERY: Duration = Duration::from_secs(1);
/// The terminal's second screen, and back; the cursor hidden, and shown.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the upper left; to the end of the line, of the screen.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
/// What differs from look to look though nothing has happened.
const RESTLESS: [&str; 12] = [
    "age_ms",
    "ahead_ms",
    "heartbeat_at",
    "said_at",
    "seen_at",
    "requests",
    "visible_p50",
    "visible_p99",
    "visible_lately_p50",
    "visible_lately_p99",
    "details",
    "applied_at",
];

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Terminal,
    Changes,
    Documents,
}

/// Gives the terminal back, however it ends.
struct Screen(Way);

impl Screen {
    fn open(way: Way) -> anyhow::Result<Self> {
        if way == Way::Terminal {
            output::print(ENTER)?;
        }
        Ok(Self(way))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.0 == Way::Terminal {
            // There is nobody to tell.
            let _ = output::print(LEAVE);
        }
    }
}

pub(super) async fn run(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let way = match (global.json, stdout().is_terminal()) {
        (true, _) => Way::Documents,
        (false, true) => Way::Terminal,
        (false, false) => Way::Changes,
    };
    if way == Way::Changes {
        output.say("stdout is no terminal: a screen is printed when something has changed; ^C ends it");
    }
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    // What is wrong at the start (no config) is the command's own error, and not a screen.
    let mut status = look(global).await?;
    let screen = Screen::open(way)?;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut shown = None;
    let exit = loop {
        if !show(way, &status, &mut shown, output)? || nobody_reads() {
            break status.exit();
        }
        let next = async {
            ticks.tick().await;
            look(global).await
        };
        tokio::select! {
            looked = next => match looked {
                Ok(looked) => status = looked,
                // A file that is being replaced, at worst: said, and looked at again.
                Err(error) => status.alarms = vec![sentence(&error)],
            },
            _ = interrupt.recv() => break status.exit(),
            _ = terminate.recv() => break status.exit(),
        }
    };
    drop(screen);
    if way == Way::Terminal {
        // What was seen last stays on the first screen.
        output.result(&status, || words::words(&status))?;
    }
    Ok(exit)
}

/// The other end of the pipe is closed: where nothing changes, nothing is written that would tell.
fn nobody_reads() -> bool {
    let stdout = stdout();
    let mut end = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut end, Some(&at_once)).is_ok() && end[0].revents().contains(PollFlags::ERR)
}

/// False where nobody looks any more.
fn show(way: Way, status: &Status, shown: &mut Option<Value>, output: Output) -> anyhow::Result<bool> {
    match way {
        Way::Documents => output.line_to_reader(status, String::new),
        Way::Terminal => {
            let (rows, columns) = Term::stdout().size();
            let text = output::harmless(&words::words(status)).into_owned();
            output::print_to_reader(&frame(&text, usize::from(rows), usize::from(columns)))
        }
        Way::Changes => {
            let mut now = serde_json::to_value(status).context("the status has no JSON form")?;
            calm(&mut now);
            if shown.as_ref() == Some(&now) {
                return Ok(true);
            }
            let first = shown.replace(now).is_none();
            let separator = if first { "" } else { "\n" };
            output.line_to_reader(status, || format!("{separator}{}", words::words(status)))
        }
    }
}

/// Takes out what differs though nothing has happened.
fn calm(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            fields.retain(|name, _| !RESTLESS.contains(&name.as_str()));
            fields.values_mut().for_each(calm);
        }
        Value::Array(items) => items.iter_mut().for_each(calm),
        _ => {}
    }
}

/// The text over what is on the screen, cut to it.
fn frame(text: &str, rows: usize, columns: usize) -> String {
    let mut frame = String::from(HOME);
    let (rows, columns) = (rows.max(2), columns.max(20));
    let lines: Vec<&str> = text.lines().collect();
    // The last line says whether all is well: it is never the one that is cut.
    let cut = lines.len() > rows;
    let above = if cut { rows - 2 } else { lines.len().saturating_sub(1) };
    let mut shown: Vec<String> = lines.iter().take(above).map(|line| (*line).to_owned()).collect();
    if cut {
        shown.push(format!("… {} lines more; a larger terminal shows them", lines.len() - above - 1));
    }
    shown.extend(lines.last().map(|line| (*line).to_owned()));
    for (number, line) in shown.iter().enumerate() {
        if number > 0 {
            frame.push_str("\r\n");
        }
        frame.push_str(&console::truncate_str(line, columns, "…"));
        frame.push_str(CLEAR_LINE);
    }
    frame.push_str(CLEAR_BELOW);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen_is_cut_to_the_terminal_and_its_last_line_stays() {
        let text = "one\ntwo is longer than that\nthree\nfour\nfive\nall is well";
        let shown = frame(text, 4, 20);
        assert_eq!(shown.matches("\r\n").count(), 3, "{shown:?}");
        assert!(shown.starts_with(HOME) && shown.ends_with(CLEAR_BELOW), "{shown:?}");
        assert!(shown.contains("two is longer than …") && shown.contains("all is well"), "{shown:?}");
        assert!(!shown.contains("three") && shown.contains("… 3 lines more"), "{shown:?}");
        let all = frame(text, 6, 80);
        assert!(all.contains("five") && !all.contains("lines more"), "{all:?}");
        assert_eq!(all.matches(CLEAR_LINE).count(), 6);
    }

    #[test]
    fn times_and_counters_of_work_are_no_change_and_a_row_is() {
        let status = |age, requests, recorded| {
            let mut status = json!({
                "components": [{"name": "bot", "age_ms": age, "heartbeat_at": format!("t{age}")}],
                "sinks": [{"requests": requests, "state": "delivering"}],
                "ledger": [{"recorded": recorded}],
            });
            calm(&mut status);
            status
        };
        assert_eq!(status(1, 2, 3), status(100, 200, 3));
        assert_ne!(status(1, 2, 3), status(1, 2, 4));
    }
}
