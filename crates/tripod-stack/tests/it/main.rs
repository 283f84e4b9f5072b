//! The crate against real servers. Whether something runs is asked of the kernel, whether it works of the server itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and says what it saw"
)]

mod archive;
mod healing;
mod lifecycle;
mod lost_state;
mod refusals;
mod replication;
mod scene;
mod secrecy;
mod test_stack;

/// Not a test of its own: what the others start as a process (a supervisor, an `up` that is killed, an `up` of another
/// user). See [`scene::run`].
#[test]
fn helper_process() {
    scene::run();
}
