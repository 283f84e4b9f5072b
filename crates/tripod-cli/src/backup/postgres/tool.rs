//! Running one of PostgreSQL's programs under a deadline, and waiting for a condition under one.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::exit::Stop;

/// Lines that wait to be looked at.
const LINES_MAX: usize = 64;
/// Of one line, and of each stream: what is behind is left out.
const LINE_BYTES_MAX: usize = 8 * 1024;
const TEXT_BYTES_MAX: usize = 1024 * 1024;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A program that has ended may have left a child that holds its pipes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a program may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// In all; none where only silence counts.
    pub(super) total: Option<Duration>,
    /// Without a new word.
    pub(super) silent: Duration,
}

/// What a program left.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// What it complained about, under its own name; its status where it said nothing.
    pub(super) fn complaint(&self) -> String {
        let lines: Vec<&str> = self.err.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let errors: Vec<&str> =
            lines.iter().copied().filter(|line| line.contains("error: ") || line.contains("FATAL")).collect();
        let chosen = if errors.is_empty() { lines.last().copied().into_iter().collect() } else { errors };
        if chosen.is_empty() { self.status.to_string() } else { chosen.join("; ") }
    }
}

/// Runs `command` to its end and gives `line` each line of its standard error as it comes. One that takes too long, or
/// says what `line` makes an error of, is killed.
pub(super) fn run(
    mut command: Command,
    patience: Patience,
    mut line: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Said> {
    let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let (sender, receiver) = sync_channel(LINES_MAX);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let errors = sender.clone();
    std::thread::spawn(move || read_lines(out, false, &sender));
    std::thread::spawn(move || read_lines(err, true, &errors));
    let (began, mut heard) = (Instant::now(), Instant::now());
    let (mut texts, mut status) = ([String::new(), String::new()], None);
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok((is_error, text)) => {
                heard = Instant::now();
                let kept: &mut String = &mut texts[usize::from(is_error)];
                if kept.len() < TEXT_BYTES_MAX {
                    kept.push_str(&text);
                    kept.push('\n');
                }
                if is_error && let Err(error) = line(&text) {
                    end(&mut child);
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if status.is_some() && heard.elapsed() > LAST_WORDS => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if status.is_none() {
            status = child.try_wait().with_context(|| format!("cannot look at {name}"))?;
            if status.is_some() {
                heard = Instant::now();
            }
        }
        if status.is_none() {
            too_long(&mut child, &name, patience, began, heard)?;
        }
    }
    while status.is_none() {
        too_long(&mut child, &name, patience, began, heard)?;
        status = child.try_wait().with_context(|| format!("cannot look at {name}"))?;
        std::thread::park_timeout(LOOK_EVERY / 10);
    }
    let [out, err] = texts;
    let status = status.with_context(|| format!("{name} has no exit status"))?;
    Ok(Said { status, out, err })
}

fn too_long(child: &mut Child, name: &str, patience: Patience, began: Instant, heard: Instant) -> anyhow::Result<()> {
    let why = if patience.total.is_some_and(|total| began.elapsed() > total) {
        format!("had not ended after {:.0?}", began.elapsed())
    } else if heard.elapsed() > patience.silent {
        format!("had said nothing for {:.0?}", heard.elapsed())
    } else {
        return Ok(());
    };
    end(child);
    let hint = "look at the server (`tripod status`) and at the disks, then try again";
    Err(Stop::untrue(format!("{name} {why} and was ended"), hint).into())
}

/// Best effort: why it is ended is what counts.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Lines that end with a line feed, or with the carriage return of a program that redraws its progress.
fn read_lines(pipe: Option<impl Read>, is_error: bool, to: &SyncSender<(bool, String)>) {
    let Some(mut pipe) = pipe else { return };
    let (mut buffer, mut line) = ([0_u8; 4096], Vec::new());
    while let Ok(size @ 1..) = pipe.read(&mut buffer) {
        for byte in buffer.iter().take(size) {
            match byte {
                b'\n' | b'\r' => {
                    if !line.is_empty() && to.send((is_error, String::from_utf8_lossy(&line).into_owned())).is_err() {
                        return;
                    }
                    line.clear();
                }
                byte if line.len() < LINE_BYTES_MAX => line.push(*byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        let _ = to.send((is_error, String::from_utf8_lossy(&line).into_owned()));
    }
}

/// Asks `condition` until it gives something or the time is over; at least once.
pub(super) fn until<T>(
    deadline: Duration,
    every: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let began = Instant::now();
    loop {
        if let Some(found) = condition()? {
            return Ok(Some(found));
        }
        let left = deadline.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::park_timeout(every.min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_says_is_kept_and_its_progress_is_told_line_by_line() {
        let (long, mut lines) = (Duration::from_secs(60), Vec::new());
        let patience = Patience { total: None, silent: long };
        let said = run(shell("echo out; printf 'a\\rb\\nx: error: c' >&2; exit 3"), patience, |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        let said = said.unwrap();
        assert_eq!((said.status.code(), said.out.as_str()), (Some(3), "out\n"));
        assert_eq!(lines, ["a", "b", "x: error: c"]);
        assert_eq!(said.complaint(), "x: error: c");
    }

    #[test]
    fn a_program_that_never_ends_is_ended() {
        let long = Duration::from_secs(60);
        for patience in [
            Patience { total: Some(Duration::from_millis(50)), silent: long },
            Patience { total: None, silent: Duration::from_millis(50) },
        ] {
            let began = Instant::now();
            let error = run(shell("exec sleep 600"), patience, |_| Ok(())).unwrap_err();
            assert!(error.to_string().contains("and was ended"), "{error}");
            assert!(began.elapsed() < long);
        }
        let patience = Patience { total: None, silent: long };
        let error =
            run(shell("echo enough >&2; exec sleep 600"), patience, |line| anyhow::bail!("{line}")).unwrap_err();
        assert_eq!(error.to_string(), "enough");
    }
}
