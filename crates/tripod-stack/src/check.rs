//! How each server is, asked of the kernel and of the server itself.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;
use crate::layout::Layout;
use crate::server::Probe;
use crate::state::Stack;
use crate::{ServerName, endings, process, replication, supervisor};

/// A server that does not answer within this is unreachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It answers a login in its own protocol.
    Running,
    /// Its process lives and it says, or its ports say, that it is not ready yet.
    Starting,
    /// It does not run and is not meant to.
    Stopped,
    /// It does not run and is meant to.
    Dead,
    /// Its process lives and it does not answer.
    Unreachable,
}

/// One server of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerState {
    /// Which one.
    pub name: ServerName,
    /// `questdb`, `postgres` or `redis`.
    pub kind: &'static str,
    /// How it is.
    pub state: RunState,
    /// Its main process.
    pub pid: Option<u32>,
    /// Its version, where it answered.
    pub version: Option<String>,
    /// `host:port`: of HTTP for QuestDB.
    pub address: String,
    /// What it does in the replication of the events, in words; none where there is no replication, or no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Why it is not running, and that nothing would start it again; empty where all is well.
    pub detail: String,
}

/// Each server of the stack in `data_dir`; empty where there is no stack. Changes nothing and takes no lock.
///
/// # Errors
/// [`crate::Error::State`] where what is recorded cannot be read.
pub fn check(data_dir: &Path) -> Result<Vec<ServerState>> {
    if !data_dir.exists() {
        return Ok(Vec::new());
    }
    let layout = Layout::of(data_dir)?;
    let Some(stack) = Stack::read(&layout)? else { return Ok(Vec::new()) };
    let supervised = supervisor::holder(&layout)?.is_some();
    // Side by side: one that does not answer does not keep the others waiting.
    Ok(std::thread::scope(|scope| {
        let stack = &stack;
        let ask = |server| scope.spawn(move || look(stack, server, supervised, ANSWER_WITHIN));
        let asked: Vec<_> = stack.state.servers.iter().map(ask).collect();
        asked.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    }))
}

/// The node for events that the sentinels take for the primary; none without high availability, or where no sentinel
/// answers.
///
/// # Errors
/// As [`check`].
pub fn events_primary(data_dir: &Path) -> Result<Option<ServerName>> {
    if !data_dir.exists() {
        return Ok(None);
    }
    let stack = Stack::read(&Layout::of(data_dir)?)?;
    Ok(stack.filter(|stack| stack.state.servers.events_ha).and_then(|stack| replication::primary_now(&stack)))
}

fn alone(supervised: bool) -> &'static str {
    if supervised { "" } else { "; no supervisor: run `tripod up`" }
}

pub(crate) fn look(stack: &Stack, server: ServerName, supervised: bool, at_most: Duration) -> ServerState {
    let pid = process::main_of(&stack.state.id, server).map(|main| main.pid.as_raw_nonzero().get().unsigned_abs());
    let (state, version, detail) = match pid {
        None if !stack.state.wanted => (RunState::Stopped, None, "not started".to_owned()),
        None if supervised => {
            let endings = endings::of(&stack.layout, server);
            (
                RunState::Dead,
                None,
                format!("the supervisor starts it again; {} times so far, last: {}", endings.count, endings.last),
            )
        }
        None => (RunState::Dead, None, "ended; no supervisor; run `tripod up`".to_owned()),
        Some(_) => match stack.probe(server, at_most) {
            Probe::Ready(version) if supervised => (RunState::Running, version, String::new()),
            Probe::Ready(version) => (RunState::Running, version, "no supervisor; run `tripod up`".to_owned()),
            Probe::Starting(why) => (RunState::Starting, None, why + alone(supervised)),
            Probe::Silent(why) => (RunState::Unreachable, None, why + alone(supervised)),
        },
    };
    let address = format!("127.0.0.1:{}", stack.state.ports.first(server));
    let replicated = pid.is_some() && stack.is_replicated(server);
    let role = if replicated { replication::role(stack, server, at_most) } else { None };
    ServerState { name: server, kind: server.kind(), state, pid, version, address, role, detail }
}
