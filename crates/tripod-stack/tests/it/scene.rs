//! A data directory for one test, and processes that work on it.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tripod_stack::{Options, RunState, ServerName, ServerState, UpReport, check, down, supervise, up};

const DO: &str = "TRIPOD_STACK_TEST_DO";

/// A data directory; whatever of it still runs at the end is ended.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    below: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::below("data")
    }

    /// With the data directory at a path of its own below the temporary one.
    pub(crate) fn below(path: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("tripod-stack-").tempdir().unwrap();
        // PostgreSQL's account must be let through.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { below: dir.path().join(path), dir }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.below
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(self.data());
        options.supervisor = supervisor();
        options
    }

    pub(crate) fn up(&self) -> UpReport {
        up(&self.options()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn check(&self) -> Vec<ServerState> {
        check(self.data()).unwrap()
    }

    pub(crate) fn state(&self) -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(self.data().join("stack/state.json")).unwrap()).unwrap()
    }

    /// What the stack's processes carry on their command lines.
    pub(crate) fn mark(&self) -> String {
        format!("tripod-{}-", self.state()["id"].as_str().unwrap())
    }

    pub(crate) fn pid(&self, server: ServerName) -> Option<u32> {
        self.check().iter().find(|found| found.name == server).unwrap().pid
    }

    pub(crate) fn pids(&self) -> Vec<Option<u32>> {
        self.check().iter().map(|server| server.pid).collect()
    }

    pub(crate) fn await_all_running(&self) {
        eventually("every server runs", || self.check().iter().all(|server| server.state == RunState::Running));
    }

    /// The value of a key in `tripod.toml`: `password` in `redis.events`.
    pub(crate) fn configured(&self, table: &str, key: &str) -> String {
        let text = std::fs::read_to_string(self.data().join("tripod.toml")).unwrap();
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        let mut item = document.as_item();
        for part in table.split('.') {
            item = item.get(part).unwrap();
        }
        let item = item.get(0).unwrap_or(item).get(key).unwrap();
        item.as_array()
            .map_or(item, |_| item)
            .as_str()
            .map_or_else(|| item.as_array().unwrap().get(0).unwrap().as_str().unwrap().to_owned(), str::to_owned)
    }

    /// One command of the bot to the Redis of `table`, and the answer's lines.
    pub(crate) fn redis(&self, table: &str, user: &str, command: &str) -> String {
        let key = if user == "tripod_admin" { "admin_password" } else { "password" };
        let password = self.configured(table, key);
        let mut stream = std::net::TcpStream::connect(self.configured(table, "addresses")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(format!("AUTH {user} {password}\r\n{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        // The answers to AUTH and QUIT are around it.
        let inner = answer.strip_prefix("+OK\r\n").and_then(|rest| rest.strip_suffix("+OK\r\n"));
        let inner = inner.unwrap_or_else(|| panic!("{user} {command}: {answer}"));
        inner.lines().collect::<Vec<_>>().join(" ")
    }

    /// One statement to PostgreSQL; what it prints, or its error.
    pub(crate) fn psql(&self, user: &str, sql: &str) -> Result<String, String> {
        let key = if user == "tripod_admin" { "admin_password" } else { "password" };
        let host = self.configured("postgres", "hosts");
        let (host, port) = host.split_once(':').unwrap();
        let output = Command::new("psql")
            .args(["-h", host, "-p", port, "-U", user, "-d", "tripod", "-XAtc", sql])
            .env("PGPASSWORD", self.configured("postgres", key))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// One statement to QuestDB over HTTP; the status and the body.
    pub(crate) fn questdb(&self, sql: &str) -> (u16, String) {
        let (address, password) = (self.configured("questdb", "http"), self.configured("questdb", "password"));
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10)));
        let agent: ureq::Agent = config.http_status_as_error(false).build().into();
        let request = agent.get(format!("http://tripod:{password}@{address}/exec")).query("query", sql);
        let mut answer = request.call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// Runs `what` on this data directory in a process of its own; see [`run`].
    pub(crate) fn process(&self, what: &str) -> Command {
        let (program, arguments) = helper(what);
        let mut command = Command::new(program);
        command.args(arguments).arg(self.data()).stdin(Stdio::null());
        command
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data().join("stack/logs/supervisor.log"));
            eprintln!("the supervisor's log:\n{}", log.unwrap_or_default());
        }
        if let Err(error) = down(self.data(), true) {
            eprintln!("after the test: {error}");
        }
    }
}

fn helper(what: &str) -> (PathBuf, Vec<OsString>) {
    let program = std::env::current_exe().unwrap();
    let arguments = [
        OsString::from(format!("{DO}={what}")),
        program.into(),
        "helper_process".into(),
        "--exact".into(),
        "--nocapture".into(),
    ];
    ("/usr/bin/env".into(), arguments.into())
}

/// What `up` starts in the background: this test program as a supervisor.
pub(crate) fn supervisor() -> (PathBuf, Vec<OsString>) {
    helper("supervise")
}

/// The work of a helper process: the last argument is the data directory.
pub(crate) fn run() {
    let Ok(what) = std::env::var(DO) else { return };
    let dir = PathBuf::from(std::env::args_os().next_back().unwrap());
    let done = match what.as_str() {
        "supervise" => supervise(&dir),
        "up" => {
            let mut options = Options::new(&dir);
            options.supervisor = supervisor();
            up(&options).map(|report| println!("UP {}", serde_json::to_string(&report).unwrap()))
        }
        "check" => check(&dir).map(|servers| println!("CHECK {}", serde_json::to_string(&servers).unwrap())),
        "wipe" => down(&dir, true).map(|report| println!("DOWN {}", serde_json::to_string(&report).unwrap())),
        "wait as victim" => return crate::test_stack::victim(true),
        "end as victim" => return crate::test_stack::victim(false),
        other => panic!("no such work: {other}"),
    };
    if let Err(error) = done {
        println!("ERROR {error}\nHINT {}", error.hint().unwrap_or_default());
        std::process::exit(3);
    }
}

/// Asks until it holds; a test that waits longer has failed.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "not within 60 s: {what}");
        // The other core is needed by what is awaited.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Live processes whose command line holds `mark`.
pub(crate) fn processes_with(mark: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| command_line(*pid).contains(mark)).collect()
}

/// Empty for one that is gone.
pub(crate) fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

pub(crate) fn kill_9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The jar where the product finds it.
pub(crate) fn questdb_jar() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = set("TRIPOD_CACHE").or_else(|| Some(set("XDG_CACHE_HOME")?.join("tripod")));
    let cache = cache.unwrap_or_else(|| set("HOME").unwrap().join(".cache/tripod"));
    let version = include_str!("../../../../scripts/versions").lines().find_map(|l| l.strip_prefix("QUESTDB_VERSION="));
    set("TRIPOD_QUESTDB_JAR").unwrap_or_else(|| cache.join(format!("questdb-{}.jar", version.unwrap())))
}
