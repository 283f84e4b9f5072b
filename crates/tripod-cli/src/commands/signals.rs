//! `tripod signals watch`: what is said on some topics, while it is said.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;
use tripod::signals::{Signal, Signals as Store};

use super::live::{Until, ended};
use crate::args::Global;
use crate::exit::Exit;
use crate::output::Output;

/// Signals that wait for the terminal.
const WAITING_MAX: usize = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Signals {
    /// Every signal of some topics as it comes, and news of a loss; what was said before is not coming
    Watch(Watch),
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Topics, as in `signals:TOPIC`
    #[arg(value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    until: Until,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Heard {
    Signal { topic: String, payload: Payload },
    Missed { count: u64 },
    Resync,
}

/// JSON as it was published; anything else as text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Payload {
    Json(Box<RawValue>),
    Text(String),
}

impl Payload {
    fn new(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        match RawValue::from_string(text.clone()) {
            // A document of several lines would be several of ours.
            Ok(json) if !text.contains('\n') => Self::Json(json),
            _ => Self::Text(text),
        }
    }
}

impl Heard {
    fn words(&self) -> String {
        match self {
            Self::Signal { topic, payload: Payload::Json(json) } => format!("{topic} {json}"),
            Self::Signal { topic, payload: Payload::Text(text) } => format!("{topic} {text:?}"),
            Self::Missed { count } => format!("({count} signals were too many at once and are left out)"),
            Self::Resync => "(the connection was lost and is back; what was said meanwhile is not coming)".to_owned(),
        }
    }
}

pub(super) async fn run(command: Signals, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let Signals::Watch(arguments) = command;
    let signals = Store::connect(&global.load()?).await?;
    let topics: Vec<&str> = arguments.topics.iter().map(String::as_str).collect();
    let mut receiver = signals.subscribe(&topics, WAITING_MAX).await?;
    output.say("listening; ^C ends it");
    let mut end = std::pin::pin!(ended(&arguments.until));
    let mut left = arguments.until.count;
    while left != Some(0) {
        let heard = tokio::select! {
            signal = receiver.recv() => match signal {
                Signal::Message { topic, payload } => Heard::Signal { topic, payload: Payload::new(&payload) },
                Signal::Missed(count) => Heard::Missed { count },
                _ => Heard::Resync,
            },
            () = &mut end => break,
        };
        left = left.map(|left| left - u64::from(matches!(heard, Heard::Signal { .. })));
        output.line(&heard, || heard.words())?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_line_of_json_whatever_it_was() {
        for (bytes, line) in [
            (&br#"{"price":1.2500}"#[..], r#"{"price":1.2500}"#),
            (b"{\n}", r#""{\n}""#),
            (b"not json", r#""not json""#),
            (b"\xff", "\"\u{fffd}\""),
        ] {
            assert_eq!(serde_json::to_string(&Payload::new(bytes)).unwrap(), line);
        }
    }
}
