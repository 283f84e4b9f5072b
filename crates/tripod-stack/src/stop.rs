//! Ending servers: in order, then by force, then looking whether they are gone.

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::process::Process;
use crate::state::Stack;
use crate::wait::Deadline;
use crate::{ServerName, process, questdb};

use std::time::Duration;

/// How long the kernel may take to end a process after SIGKILL (it may be waiting for a disk).
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How many processes an error names.
const NAMED_MAX: usize = 20;

/// Ends `servers`. All get their signal at once, in the order given, and are awaited together. Gives those that ran,
/// and whether each had to be killed.
pub(crate) fn stop(stack: &Stack, servers: &[ServerName]) -> Result<Vec<(ServerName, bool)>> {
    let id = &stack.state.id;
    let running: Vec<ServerName> =
        servers.iter().copied().filter(|server| !process::of(id, *server).is_empty()).collect();
    for server in &running {
        let processes = process::of(id, *server);
        // Helpers whose server is gone get the signal themselves.
        let main = process::main_of(id, *server);
        process::signal(id, main.as_ref().map_or(&processes[..], std::slice::from_ref), server.stop_signal());
        // A stopped process sees a signal only after it was told to go on.
        process::signal(id, &processes, Signal::CONT);
    }
    let asked = Deadline::after(running.iter().map(|server| server.stop_grace()).max().unwrap_or_default());
    let mut ended = Vec::new();
    for server in running {
        let grace = Deadline::after(server.stop_grace().saturating_sub(asked.waited()));
        let left = process::gone(grace, || process::of(id, server));
        let by_force = !left.is_empty();
        if by_force {
            kill(stack, server)?;
        } else if server == ServerName::QuestDb {
            questdb::keep_archive(stack);
        }
        ended.push((server, by_force));
    }
    Ok(ended)
}

/// Ends every process of `server` with SIGKILL.
pub(crate) fn kill(stack: &Stack, server: ServerName) -> Result<()> {
    kill_all(stack, || process::of(&stack.state.id, server))
}

/// Ends whatever of the stack is left, tools of a setup included.
pub(crate) fn kill_rest(stack: &Stack) -> Result<()> {
    kill_all(stack, || process::all(&stack.state.id))
}

fn kill_all(stack: &Stack, list: impl Fn() -> Vec<Process>) -> Result<()> {
    let deadline = Deadline::after(KILL_GRACE);
    let left = process::gone(deadline, || {
        let left = list();
        process::signal(&stack.state.id, &left, Signal::KILL);
        left
    });
    if left.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = left.iter().take(NAMED_MAX).map(|left| left.pid.as_raw_nonzero().to_string()).collect();
    Err(Error::StillRunning { count: left.len(), pids: pids.join(", ") })
}
