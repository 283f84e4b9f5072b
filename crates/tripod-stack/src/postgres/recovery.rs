//! Recovery of a cluster from a base backup and the archive, aside, before anything is replaced by it.
//!
//! Constraints: the cluster recovers in a directory of its own beside the stack's, by a server that listens on no port
//! and that nobody can log in to; the stack's own may run meanwhile. Its archiver is on and has no command: what the new timeline
//! begins with is marked as not archived yet, and the stack's own server archives it after [`put_in_place`]. A recovery
//! that is given up has therefore left nothing in the archive. One that was killed is ended by the next one, or by `down`.
//!
//! ```text
//! PLACE/tripod-ID-restore              the cluster while it recovers
//! PLACE/tripod-ID-restore/tripod-restore/   places, restore-wal.sh, missing: see that script; gone when it has recovered
//! DATA/stack/logs/postgres-restore.log what the server said
//! PLACE/replaced-N                     the cluster that was in place before
//!
//! give ─▶ recovery.signal ─▶ server: log from the places, up to the target ─▶ new timeline ─▶ ends in order ─▶ logins
//! put in place: config ─▶ PostgreSQL ends ─▶ the two directories change names in one step ─▶ the next `up` starts it
//! ```

use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};

use super::{archive, configure, data, durable, end_leftovers, renew_logins, tool};
use crate::account::Account;
use crate::error::{During as _, Error, Result};
use crate::layout::{PRIVATE, make_dir, remove_dir};
use crate::secrets::write_private;
use crate::server::open_log;
use crate::state::{Lock, Stack};
use crate::supervisor::Place;
use crate::wait::{Deadline, until};
use crate::{ServerName, process, stop};

const SCRIPT: &str = include_str!("restore-wal.sh");
/// The port in the name of its socket; it listens on none.
const SOCKET_NUMBER: &str = "1";
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Its last checkpoint writes what the recovery changed in memory.
const END_WITHIN: Duration = Duration::from_secs(120);
/// For another `up`, `down` or restore to end.
const LOCK_WITHIN: Duration = Duration::from_secs(90);
/// Of what it says: a line for each file of the log that it asks for.
const SAID_BYTES_MAX: usize = 256 * 1024;

/// Where a cluster recovers.
pub(super) fn place(stack: &Stack) -> PathBuf {
    stack.state.places.postgres.join(format!("tripod-{}-restore", stack.state.id))
}

fn log(stack: &Stack) -> PathBuf {
    stack.layout.logs().join("postgres-restore.log")
}

/// Who the cluster is to belong to, where that is not the caller. Root puts nothing into a directory that a user could
/// replace by a link meanwhile.
fn owner(stack: &Stack) -> Result<Option<Account>> {
    match stack.user() {
        Some(user) => Err(Error::DataDir {
            path: stack.layout.home().to_owned(),
            what: format!("belongs to {}, who alone can restore into it", user.name),
        }),
        None => Ok(stack.state.account.clone()),
    }
}

/// Makes an empty directory for a cluster; what an earlier restore left goes.
pub(super) fn make_place(stack: &Stack) -> Result<PathBuf> {
    owner(stack)?;
    let _lock = Lock::take(&stack.layout, Deadline::after(LOCK_WITHIN))?;
    let place = place(stack);
    end_leftovers(stack);
    remove_dir(&place)?;
    make_dir(&place, PRIVATE)?;
    Ok(place)
}

/// Recovers the cluster in [`place`] and gives what its server said. `settings` are those of the target, and are put on a
/// command line.
pub(super) fn recover(
    stack: &Stack,
    places: &[PathBuf],
    settings: &[(&str, String)],
    deadline: Duration,
) -> Result<String> {
    let _lock = Lock::take(&stack.layout, Deadline::after(LOCK_WITHIN))?;
    let cluster = place(stack);
    end_leftovers(stack);
    let owner = owner(stack)?;
    // A reboot may have taken the sockets' directory.
    stack.state.places.make(owner.as_ref(), None)?;
    // Of one that was killed with its restore: until somebody has awaited it, its process counts as alive there, and the
    // next server would not take the socket from it. No other server has this number.
    let sockets = stack.state.places.postgres_sockets();
    for end in ["", ".lock"] {
        super::remove_if_there(&sockets.join(format!(".s.PGSQL.{SOCKET_NUMBER}{end}")))?;
    }
    let own = cluster.join("tripod-restore");
    make_dir(&own, PRIVATE)?;
    let lines: Vec<String> = places.iter().map(|place| Ok(format!("{}\n", line(place)?))).collect::<Result<_>>()?;
    write_private(&own.join("places"), &lines.concat(), None)?;
    write_private(&own.join("restore-wal.sh"), SCRIPT, None)?;
    write_private(&cluster.join("recovery.signal"), "", None)?;
    // Of a server that was killed on a copy of a live directory; a base backup has none.
    super::remove_if_there(&cluster.join("postmaster.pid"))?;
    // And of a recovery that was killed: its number may be another process' by now, or that of a dead one that nobody has
    // taken notice of yet, and PostgreSQL would take either for a server that lives.
    for name in [format!(".s.PGSQL.{SOCKET_NUMBER}"), format!(".s.PGSQL.{SOCKET_NUMBER}.lock")] {
        super::remove_if_there(&stack.state.places.postgres_sockets().join(name))?;
    }
    std::fs::set_permissions(&cluster, std::fs::Permissions::from_mode(PRIVATE)).during("set the mode of", &cluster)?;
    if let Some(owner) = &owner {
        give(&cluster, owner)?;
    }
    let path = log(stack);
    super::remove_if_there(&path)?;
    let file = open_log(&path)?;
    let mut command = tool(stack, "postgres");
    command.arg("-D").arg(&cluster);
    let sockets = sockets.display().to_string();
    for (name, value) in [
        ("cluster_name", process::initdb_tag(&stack.state.id)),
        ("listen_addresses", String::new()),
        ("port", SOCKET_NUMBER.to_owned()),
        ("unix_socket_directories", format!("\"{}\"", sockets.replace('"', "\"\""))),
        ("hot_standby", "off".to_owned()),
        ("fsync", durable(stack).to_owned()),
        ("archive_mode", "on".to_owned()),
        ("archive_command", String::new()),
        ("archive_library", String::new()),
        ("primary_conninfo", String::new()),
        ("restore_command", "/bin/sh tripod-restore/restore-wal.sh \"%f\" \"%p\"".to_owned()),
        ("recovery_target_action", "promote".to_owned()),
        // Its words are read.
        ("lc_messages", "C".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("datestyle", "iso, ymd".to_owned()),
        ("log_min_messages", "warning".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_line_prefix", String::new()),
    ] {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.stdin(Stdio::null()).stdout(file.try_clone().during("open", &path)?).stderr(file);
    let mut child = command.process_group(0).spawn().during("start", Path::new(command.get_program()))?;
    let recovered = await_end(&mut child, &cluster, &path, Deadline::after(deadline));
    if recovered.is_err() {
        // Best effort: the first error counts.
        let _ = child.kill();
        let _ = child.wait();
        end_leftovers(stack);
    }
    recovered?;
    renew_logins(stack, &cluster)?;
    remove_dir(&own)?;
    Ok(said(&path))
}

/// Waits until it takes writes, and ends it.
fn await_end(child: &mut Child, cluster: &Path, log: &Path, deadline: Deadline) -> Result<()> {
    let failed = || Error::Recovery { log: log.to_owned(), said: said(log) };
    let ready = until(deadline, LOOK_EVERY, || -> Result<Option<()>> {
        if child.try_wait().during("look at the process of", log)?.is_some() {
            return Err(failed());
        }
        // The eighth line says how far it is.
        let text = std::fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
        Ok(text.lines().nth(7).is_some_and(|line| line.trim() == "ready").then_some(()))
    })?;
    if ready.is_none() {
        let (server, why) = (ServerName::Postgres, "it is still recovering".to_owned());
        let tail = crate::up::tail(log);
        return Err(Error::NotReady { server, waited: deadline.waited(), why, tail, log: log.to_owned() });
    }
    // "Fast": a checkpoint, and the end.
    let _ = kill_process(Pid::from_child(child), Signal::INT);
    let ended =
        until(Deadline::after(END_WITHIN), LOOK_EVERY, || child.try_wait()).during("await the process of", log)?;
    match ended {
        Some(status) if status.success() => Ok(()),
        _ => Err(failed()),
    }
}

fn said(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let from = bytes.len().saturating_sub(SAID_BYTES_MAX);
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}

/// A path as a line of a file.
fn line(path: &Path) -> Result<&str> {
    let wrong = |what: &str| Error::DataDir { path: path.to_owned(), what: what.to_owned() };
    let text = path.to_str().ok_or_else(|| wrong("has a name that is not UTF-8"))?;
    if text.chars().any(char::is_control) { Err(wrong("has a control character in its path")) } else { Ok(text) }
}

/// Gives a directory and everything in it to `owner`; follows no link.
fn give(dir: &Path, owner: &Account) -> Result<()> {
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        lchown(&path, Some(owner.uid), Some(owner.gid)).during("change the owner of", &path)?;
        if std::fs::symlink_metadata(&path).during("look at", &path)?.is_dir() {
            for entry in std::fs::read_dir(&path).during("read", &path)? {
                left.push(entry.during("read", &path)?.path());
            }
        }
    }
    Ok(())
}

/// Puts the recovered cluster where the stack's is, whose server is ended; gives where that one is now, if there was one.
/// Nobody runs the servers afterwards: `up` does, and starts the new one.
pub(super) fn put_in_place(stack: &Stack) -> Result<Option<PathBuf>> {
    owner(stack)?;
    let _lock = Lock::take(&stack.layout, Deadline::after(LOCK_WITHIN))?;
    let (cluster, data) = (place(stack), data(stack));
    let setup = |what: String| Error::Setup { server: ServerName::Postgres, what };
    let unfinished =
        ["recovery.signal", "backup_label", "postmaster.pid"].iter().find(|name| cluster.join(name).exists());
    if let Some(name) = unfinished {
        return Err(setup(format!("{} has not recovered: there is a {name} in it", cluster.display())));
    }
    archive::make_of(stack, &cluster)?;
    configure(stack, &cluster)?;
    let _place = Place::clear(&stack.layout)?;
    stop::stop(stack, &[ServerName::Postgres])?;
    let parent = &stack.state.places.postgres;
    let sync = || std::fs::File::open(parent).and_then(|dir| dir.sync_all()).during("write to disk", parent);
    if !data.exists() {
        std::fs::rename(&cluster, &data).during("rename", &cluster)?;
        sync()?;
        return Ok(None);
    }
    renameat_with(CWD, &cluster, CWD, &data, RenameFlags::EXCHANGE).during("put in place", &cluster)?;
    sync()?;
    let free = (1_u32..).map(|number| parent.join(format!("replaced-{number}"))).find(|path| !path.exists());
    let old = free.ok_or_else(|| setup("there is no name left for what was replaced".to_owned()))?;
    std::fs::rename(&cluster, &old).during("rename", &cluster)?;
    Ok(Some(old))
}
