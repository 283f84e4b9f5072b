//! PostgreSQL: a cluster made once, with its own roles, run by an account that is not root.
//!
//! Constraints: PostgreSQL refuses to run as root, so root drops to an unprivileged account, which must own the data.
//! A cluster appears at once or not at all: it is made under another name and renamed when its roles and its database
//! are in it. No password is on a command line: the administrator's goes in by a file, the others by standard input.
//!
//! ```text
//! PLACE/data                        the cluster; PLACE is DATA/stack/postgres or /var/lib/tripod/tripod-ID
//! PLACE/tripod-ID-initdb            the cluster while it is made
//! PLACE/archive                     its finished log, see `archive`
//! PLACE/pgpass                      the logins of the administrator and of base backups, for PostgreSQL's own programs
//! SOCKETS/postgres/.s.PGSQL.PORT    its unix socket
//! ```

mod archive;
mod place;
mod recovery;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{During as _, Error, Result};
use crate::layout::remove_dir;
use crate::programs::{major, named, not_it, path_dirs, version_line, why_not};
use crate::secrets::{Secret, write_private};
use crate::server::{Probe, clean_command};
use crate::state::{Programs, Stack};
use crate::wait::Deadline;
use crate::{Owner, ServerName, process, stop, versions};

const POSTGRESQL_CONF: &str = include_str!("../conf/postgres/postgresql.conf");
const PG_HBA_CONF: &str = include_str!("../conf/postgres/pg_hba.conf");

pub(crate) use archive::make as make_archive;
pub use place::PostgresPlace;

/// The superuser, who owns the schema.
pub(crate) const ADMIN: &str = "tripod_admin";
/// The bot's login; `tripod migrate` gives it its rights.
pub(crate) const BOT: &str = "tripod_bot";
/// The login for base backups; replication is all that it may do.
pub(crate) const BACKUP: &str = "tripod_backup";
/// The database.
pub(crate) const DATABASE: &str = "tripod";

/// Processes of a setup that was killed get this long to end.
const LEFTOVERS_END: Duration = Duration::from_secs(5);

/// Finds the newest installed PostgreSQL that is new enough.
pub(crate) fn find(programs: &mut Programs) -> Result<()> {
    let wanted = versions::major("POSTGRES_MAJOR_MIN");
    let what = format!("PostgreSQL {wanted} or newer (`postgres` and `initdb`)");
    let named = named("TRIPOD_POSTGRES_BIN", &what)?;
    let places = match &named {
        Some(dir) => vec![dir.clone()],
        None => {
            let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            let mut installed: Vec<(Option<u32>, PathBuf)> =
                installed.map(|entry| (entry.file_name().to_str().and_then(major), entry.path().join("bin"))).collect();
            installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
            installed.into_iter().map(|(_, dir)| dir).chain(path_dirs()).collect()
        }
    };
    for dir in &places {
        let (server, setup) = (dir.join("postgres"), dir.join("initdb"));
        if !server.is_file() || !setup.is_file() {
            continue;
        }
        // "postgres (PostgreSQL) 15.18 (Debian …)"
        let Some(version) = version_line(&server, "--version").and_then(|l| l.split(' ').nth(2).map(str::to_owned))
        else {
            continue;
        };
        if major(&version).is_some_and(|found| found >= wanted) {
            programs.postgres_bin.clone_from(dir);
            programs.postgres_version = version;
            return Ok(());
        }
    }
    if let Some(dir) = named {
        let absent = ["postgres", "initdb"].into_iter().find(|name| !dir.join(name).is_file());
        let why = match absent {
            Some(name) => format!("there is no `{name}` in it"),
            None => why_not(&dir.join("postgres"), version_line(&dir.join("postgres"), "--version").as_deref()),
        };
        return Err(not_it("TRIPOD_POSTGRES_BIN", &dir, &format!("a directory with {what}"), &why));
    }
    let looked = "TRIPOD_POSTGRES_BIN, /usr/lib/postgresql/*/bin, PATH".to_owned();
    Err(Error::Missing { what, looked, wrong: None })
}

fn data(stack: &Stack) -> PathBuf {
    stack.state.places.postgres.join("data")
}

/// Gives the login for base backups its password where an older version made the stack.
pub(crate) fn make_ready(stack: &mut Stack) -> Result<()> {
    if stack.state.passwords.postgres_backup.is_none() {
        stack.state.passwords.postgres_backup = Some(Secret::fresh()?);
        stack.state.logins_are_old |= data(stack).exists();
    }
    Ok(())
}

/// Whether an older version, which archived nothing, has written its settings and its logins.
pub(crate) fn is_outdated(stack: &Stack) -> bool {
    let old = || {
        let conf = std::fs::read_to_string(data(stack).join("postgresql.conf")).unwrap_or_default();
        stack.state.passwords.postgres_backup.is_none() || !conf.contains("\narchive_command = ")
    };
    stack.state.servers.postgres && data(stack).exists() && old()
}

/// Makes the cluster where there is none, and writes its config files.
pub(crate) fn prepare(stack: &Stack) -> Result<()> {
    let data = data(stack);
    if !data.exists() {
        make(stack, &data)?;
    } else if stack.state.logins_are_old {
        // Only a server in single-user mode takes them, and it must be the only one on these data.
        stop::stop(stack, &[ServerName::Postgres])?;
        remove_if_there(&data.join("postmaster.pid"))?;
        renew_logins(stack, &data)?;
    }
    make_archive(stack)?;
    configure(stack, &data)
}

/// Writes the config files of a cluster.
fn configure(stack: &Stack, data: &Path) -> Result<()> {
    let owner = stack.state.account.as_ref();
    let port = stack.state.ports.postgres;
    let durable = durable(stack);
    let sockets = stack.state.places.postgres_sockets();
    // A list of directories, in which each may stand in double quotes.
    let own = format!(
        "\n# This stack's own; written at each `tripod up`.\nport = {port}\nunix_socket_directories = '\"{}\"'\n\
         unix_socket_permissions = 0770\nfsync = {durable}\nfull_page_writes = {durable}\n{}",
        sockets.display().to_string().replace('\\', "\\\\").replace('"', "\"\"").replace('\'', "''"),
        archive::setting(stack, data)?,
    );
    write_private(&data.join("postgresql.conf"), &format!("{POSTGRESQL_CONF}{own}"), owner)?;
    write_private(&data.join("pg_hba.conf"), PG_HBA_CONF, owner)?;
    let pass = [
        (ADMIN, Some(&stack.state.passwords.postgres_admin)),
        (BACKUP, stack.state.passwords.postgres_backup.as_ref()),
    ];
    let lines = pass.iter().filter_map(|(user, secret)| Some(format!("*:*:*:{user}:{}\n", secret.as_ref()?.expose())));
    write_private(&pass_file(stack), &lines.collect::<String>(), owner)
}

/// `on` where what was acknowledged must survive a loss of power.
fn durable(stack: &Stack) -> &'static str {
    match stack.state.owner {
        Owner::Operator => "on",
        Owner::Test => "off",
    }
}

fn pass_file(stack: &Stack) -> PathBuf {
    stack.state.places.postgres.join("pgpass")
}

fn make(stack: &Stack, data: &Path) -> Result<()> {
    let (id, owner) = (&stack.state.id, stack.state.account.as_ref());
    let setup = |what: String| Error::Setup { server: ServerName::Postgres, what };
    let place = &stack.state.places.postgres;
    if let Some(account) = owner.filter(|account| !account.can_enter(place)) {
        return Err(setup(format!("{} cannot be entered by its account `{}`", place.display(), account.name)));
    }
    end_leftovers(stack);
    let new = place.join(process::initdb_tag(id));
    remove_dir(&new)?;
    let password_file = place.join("password");
    write_private(&password_file, stack.state.passwords.postgres_admin.expose(), owner)?;

    let mut initdb = tool(stack, "initdb");
    initdb.arg("-D").arg(&new).args([
        "-U",
        ADMIN,
        "-A",
        "scram-sha-256",
        "--data-checksums",
        "--locale=C",
        "-E",
        "UTF8",
    ]);
    // Segments of 1 MiB instead of 16: an idle stack stays small.
    initdb.args(["--no-instructions", "--wal-segsize=1"]).arg(format!("--pwfile={}", password_file.display()));
    if stack.state.owner == Owner::Test {
        initdb.arg("--no-sync");
    }
    let made = run(initdb, "").map_err(|words| setup(format!("initdb: {words}")));
    std::fs::remove_file(&password_file).during("remove", &password_file)?;
    made?;

    single_user(stack, &new, &format!("CREATE DATABASE {DATABASE};\n\n{}", logins(stack)))
        .map_err(|words| setup(format!("making database and roles: {words}")))?;
    std::fs::rename(&new, data).during("rename", &new)
}

/// Ends what an `up` or a recovery that was killed may have left.
fn end_leftovers(stack: &Stack) {
    let id = &stack.state.id;
    let leftovers = || process::all(id).into_iter().filter(|left| left.is_tool()).collect::<Vec<_>>();
    process::signal(id, &leftovers(), rustix::process::Signal::KILL);
    process::gone(Deadline::after(LEFTOVERS_END), leftovers);
}

/// Gives the roles of a cluster that is there the passwords of this stack. No server runs on it.
fn renew_logins(stack: &Stack, data: &Path) -> Result<()> {
    single_user(stack, data, &logins(stack)).map_err(|words| Error::Setup {
        server: ServerName::Postgres,
        what: format!("the data in {} got no new passwords: {words}", data.display()),
    })
}

/// The statements that make each login what it must be, whatever there is.
fn logins(stack: &Stack) -> String {
    let passwords = &stack.state.passwords;
    let login = |name: &str, rights: &str, secret: &Secret| {
        format!(
            "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN CREATE ROLE {name}; \
             END IF; END$$;\n\nALTER ROLE {name} LOGIN {rights} PASSWORD '{}';\n\n",
            secret.expose()
        )
    };
    let mut sql = login(ADMIN, "", &passwords.postgres_admin) + &login(BOT, "", &passwords.postgres_bot);
    if let Some(secret) = &passwords.postgres_backup {
        sql += &login(BACKUP, "REPLICATION", secret);
    }
    sql
}

/// Runs `sql` on a cluster on which no server runs; PostgreSQL's words where it fails.
fn single_user(stack: &Stack, data: &Path, sql: &str) -> Result<(), String> {
    let mut single = tool(stack, "postgres");
    // With `-j` a statement ends at a semicolon that an empty line follows.
    single.args(["--single", "-j", "-c", "log_min_error_statement=panic", "-c", "password_encryption=scram-sha-256"]);
    // Known as a tool of this stack by that.
    single.arg("-c").arg(format!("cluster_name={}", process::initdb_tag(&stack.state.id)));
    single.arg("-c").arg(format!("fsync={}", durable(stack)));
    single.arg("-D").arg(data).arg("postgres");
    run(single, sql)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).during("remove", path),
        _ => Ok(()),
    }
}

/// One of PostgreSQL's programs, run by the account that owns the data.
pub(crate) fn tool(stack: &Stack, name: &str) -> Command {
    let mut command = clean_command(stack.state.programs.postgres_bin.join(name));
    if let Some(account) = stack.state.account.clone().or_else(|| stack.user()) {
        account.apply(&mut command);
    }
    command
}

/// Runs a tool with `input`; its own words where it fails. The single-user server reports an error only in its output.
fn run(mut command: Command, input: &str) -> Result<(), String> {
    let words = |e: std::io::Error| e.to_string();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(words)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(words)?;
    }
    let output = child.wait_with_output().map_err(words)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let wrong = |line: &&str| ["error:", "ERROR:", "FATAL:", "PANIC:"].iter().any(|mark| line.contains(mark));
    match text.lines().find(wrong) {
        None if output.status.success() => Ok(()),
        None => Err(format!("{}; {}", output.status, text.lines().last().unwrap_or_default())),
        Some(line) => Err(line.trim().to_owned()),
    }
}

/// The command that starts it; removes what a server that was killed left in the way.
pub(crate) fn command(stack: &Stack) -> Result<Command> {
    let data = data(stack);
    // Processes are looked for before each start, so these files name a dead one, or one that took its id.
    let socket = format!(".s.PGSQL.{}", stack.state.ports.postgres);
    let sockets = stack.state.places.postgres_sockets();
    for stale in [data.join("postmaster.pid"), sockets.join(&socket), sockets.join(format!("{socket}.lock"))] {
        remove_if_there(&stale)?;
    }
    let mut command = tool(stack, "postgres");
    command.arg("-D").arg(&data).arg("-c").arg(format!("cluster_name={}", stack.tag(ServerName::Postgres)));
    Ok(command)
}

/// Begins a login on the TCP port: a server that asks for the password is ready, one that is starting says so.
pub(crate) fn probe(stack: &Stack, at_most: Duration) -> Probe {
    let address = SocketAddr::from(([127, 0, 0, 1], stack.state.ports.postgres));
    match first_answer(address, at_most) {
        // AuthenticationSASL
        Ok((b'R', _)) => Probe::Ready(Some(stack.state.programs.postgres_version.clone())),
        Ok((b'E', text)) if text.contains("57P03") => Probe::Starting("is starting up".to_owned()),
        Ok((kind, _)) => Probe::Silent(format!("answers a login with message `{}`", char::from(kind))),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Probe::Starting("does not listen yet".to_owned()),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Probe::Silent(format!("no answer to a login within {at_most:?}"))
        }
        Err(e) => Probe::Silent(format!("no answer to a login: {e}")),
    }
}

/// Whether a server on this port asks a login for its password.
pub(crate) fn says_ready(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    matches!(first_answer(address, Duration::from_secs(1)), Ok((b'R', _)))
}

fn first_answer(address: SocketAddr, at_most: Duration) -> std::io::Result<(u8, String)> {
    let mut stream = TcpStream::connect_timeout(&address, at_most)?;
    stream.set_read_timeout(Some(at_most))?;
    stream.set_write_timeout(Some(at_most))?;
    let fields = format!("user\0{BOT}\0database\0{DATABASE}\0\0");
    let length = u32::try_from(fields.len() + 8).unwrap_or(u32::MAX);
    let mut message = Vec::from(length.to_be_bytes());
    message.extend(196_608_u32.to_be_bytes());
    message.extend(fields.as_bytes());
    stream.write_all(&message)?;
    let mut kind = [0_u8; 1];
    stream.read_exact(&mut kind)?;
    let mut rest = [0_u8; 512];
    let size = stream.read(&mut rest)?;
    Ok((kind[0], String::from_utf8_lossy(rest.get(..size).unwrap_or_default()).into_owned()))
}

/// Removes the shared memory segment that a killed server left: the kernel keeps such a one until somebody does.
pub(crate) fn remove_shared_memory(stack: &Stack) {
    // The seventh line of the pid file holds its key and its id; the kernel's list says whether it is still that one.
    let text = std::fs::read_to_string(data(stack).join("postmaster.pid")).unwrap_or_default();
    let mut numbers = text.lines().nth(6).unwrap_or_default().split_whitespace();
    let (Some(key), Some(id)) = (numbers.next(), numbers.next()) else { return };
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let unused = table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // key, id, …, attached processes in the seventh
        let signed = fields.first().and_then(|field| field.parse::<i64>().ok());
        signed == key.parse().ok() && fields.get(1) == Some(&id) && fields.get(6) == Some(&"0")
    });
    if unused {
        let _ = tool_in_path("ipcrm").args(["-m", id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn tool_in_path(name: &str) -> Command {
    clean_command(name)
}
