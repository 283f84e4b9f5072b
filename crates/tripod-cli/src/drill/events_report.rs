//! What a drill of events says: the `--json` contract `drill run`, and the same in words.

use serde::Serialize;

use super::Drill;

/// The document of `drill run`.
#[derive(Debug, Serialize)]
pub(crate) struct EventsReport {
    pub(super) drill: Drill,
    pub(super) rounds: u32,
    /// Events that the server acknowledged.
    pub(super) recorded: u64,
    /// Acknowledged, and in the end in no stream.
    pub(super) lost: u64,
    /// In the stream twice under one key.
    pub(super) doubled: u64,
    /// Acknowledged, and no handler was given them.
    pub(super) unhandled: u64,
    /// The longest call that publishes.
    pub(super) max_stall_us: u64,
    /// The longest time from a break until writes were taken again.
    pub(super) recovery_ms: u64,
    /// Each round's.
    pub(super) recoveries_ms: Vec<u64>,
    pub(super) promise: &'static str,
    /// Every promise was kept.
    pub(crate) ok: bool,
    /// Acknowledged events that the new server lacked, and that were published again.
    pub(super) republished: u64,
    /// Events that were trimmed unread, as counted by the library; and how many the drill let be trimmed.
    pub(super) trimmed: Option<[u64; 2]>,
    #[serde(skip)]
    pub(super) broken: Vec<String>,
}

impl EventsReport {
    pub(crate) fn words(&self) -> String {
        let mut text = format!("promised    {}\n", self.promise);
        text += &format!("rounds      {}\nevents      {} acknowledged\n", self.rounds, self.recorded);
        text += &format!("lost        {}\ndoubled     {}\nunhandled   {}\n", self.lost, self.doubled, self.unhandled);
        if let Some([counted, real]) = self.trimmed {
            text += &format!("trimmed     {counted} counted, {real} in truth\n");
        } else {
            text += &format!("republished {}\n", self.republished);
            let each: Vec<String> = self.recoveries_ms.iter().map(ToString::to_string).collect();
            text += &format!("recovery    longest {} ms (each: {})\n", self.recovery_ms, each.join(", "));
        }
        text += &format!("publish     longest call {} us\n", self.max_stall_us);
        match self.ok {
            true => text + "the promise was kept",
            false => format!("{text}THE PROMISE WAS BROKEN: {}", self.broken.join("; ")),
        }
    }
}
