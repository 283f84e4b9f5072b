//! `ops/`: what it installs, and that the command lines of its units start servers that Tripod has nothing against.
//!
//! There is no running systemd here. Its part is played as far as a process needs it: variables and credentials put in,
//! directories made, the account changed. The sandbox is not.

#![expect(clippy::print_stdout, reason = "what was seen is worth reading where a test fails, and no bar of one")]

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{run, tripod};

const UNITS: [&str; 7] = [
    "tripod-deliver@.service",
    "tripod-monitor.service",
    "tripod-postgres.service",
    "tripod-questdb.service",
    "tripod-redis-events.service",
    "tripod-redis-prices.service",
    "tripod.target",
];

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops").canonicalize().unwrap()
}

/// What `systemd/install` puts into a directory, with ports of its own.
struct Installed {
    root: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        // PostgreSQL's account enters it.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let installed = Self { root };
        installed.install();
        installed
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.path().join(absolute.trim_start_matches('/'))
    }

    fn install(&self) {
        let etc = self.path("/etc/tripod");
        if !etc.exists() {
            std::fs::create_dir_all(&etc).unwrap();
            let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let names = ["QUESTDB_HTTP", "QUESTDB_PG", "QUESTDB_METRICS", "POSTGRES", "REDIS_PRICES", "REDIS_EVENTS"];
            let line =
                |(name, held): (&str, &TcpListener)| format!("{name}_PORT={}\n", held.local_addr().unwrap().port());
            std::fs::write(etc.join("ports.env"), names.into_iter().zip(&held).map(line).collect::<String>()).unwrap();
        }
        let mut command = Command::new(ops().join("systemd/install"));
        command.env("DESTDIR", self.root.path()).env("TRIPOD_BINARY", env!("CARGO_BIN_EXE_tripod"));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let words = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(!words.contains("password ="), "{words}");
    }

    /// The values of a unit's key, in order, long lines put together.
    fn values(&self, unit: &str, key: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("/etc/systemd/system").join(unit)).unwrap();
        let text = text.replace("\\\n", " ");
        let value =
            |line: &str| line.split_once('=').filter(|(name, _)| *name == key).map(|(_, v)| v.trim().to_owned());
        text.lines().filter_map(value).collect()
    }

    /// Plays systemd's part for one unit.
    fn start(&self, unit: &str) -> Server {
        let account = (unit == "tripod-postgres.service").then(unprivileged).flatten();
        let hand_over = |path: &Path| {
            if let Some((uid, gid)) = account {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        };
        for (key, under) in [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")] {
            for name in self.values(unit, key).iter().flat_map(|names| names.split(' ')) {
                let dir = self.path(under).join(name);
                std::fs::create_dir_all(&dir).unwrap();
                hand_over(&dir);
            }
        }
        let credentials = self.path("/run/credentials").join(unit);
        std::fs::create_dir_all(&credentials).unwrap();
        for credential in self.values(unit, "LoadCredential") {
            let (name, from) = credential.split_once(':').unwrap();
            std::fs::copy(self.path(from), credentials.join(name)).unwrap();
            hand_over(&credentials.join(name));
        }
        hand_over(&credentials);
        let mut variables: HashMap<String, String> = HashMap::new();
        for file in self.values(unit, "EnvironmentFile") {
            let text = std::fs::read_to_string(self.path(&file)).unwrap();
            let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            variables.extend(text.lines().filter(|line| !line.starts_with('#')).filter_map(pair));
        }
        for line in self.values(unit, "Environment") {
            variables
                .extend(line.split(' ').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.into(), v.into())));
        }
        let command = |line: &str| {
            let mut line = line.replace("%d", "/run/credentials/UNIT").replace("UNIT", unit);
            for (name, value) in &variables {
                line = line.replace(&format!("${{{name}}}"), value);
            }
            // The words that are places are in the directory; programs are the machine's.
            let place = |word: &str| {
                let mut word = word.to_owned();
                for under in ["/etc/tripod", "/var/lib/tripod", "/run/tripod", "/run/credentials", "/usr/share/tripod"]
                {
                    word = word.replace(under, &self.path(under).display().to_string());
                }
                word
            };
            let mut words = line.split_whitespace().map(place);
            let program = words.next().unwrap();
            let mut command = Command::new("setpriv");
            // Gone with this test, however it ends.
            command.args(["--pdeathsig", "KILL"]);
            if let Some((uid, gid)) = account {
                command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]);
            }
            command.arg(program).args(words).env_clear().envs(&variables).current_dir("/");
            command
        };
        for line in self.values(unit, "ExecStartPre") {
            let done = command(&line).output().unwrap();
            assert!(done.status.success(), "{unit}: {line}: {done:?}");
        }
        let log = self.root.path().join(format!("{unit}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let line = self.values(unit, "ExecStart").remove(0);
        let mut command = command(&line);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Server { child: command.spawn().unwrap(), log }
    }
}

struct Server {
    child: Child,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}:\n{}", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where this test runs as root: PostgreSQL does not.
fn unprivileged() -> Option<(u32, u32)> {
    let root = std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line =
        ["postgres", "nobody"].iter().find_map(|name| passwd.lines().find_map(|l| l.strip_prefix(&format!("{name}:"))));
    let mut fields = line?.split(':').skip(1);
    root.then_some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[test]
fn servers_started_as_the_units_say_are_as_tripod_needs_them() {
    let installed = Installed::new();
    let _servers = [
        "tripod-questdb.service",
        "tripod-postgres.service",
        "tripod-redis-prices.service",
        "tripod-redis-events.service",
    ]
    .map(|unit| installed.start(unit));
    let config = installed.path("/etc/tripod/tripod.toml").display().to_string();
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let said = run(installed.root.path(), &["--config", &config, "migrate", "-q"]);
        if said.code == Some(0) {
            break;
        }
        assert!(said.code == Some(3) && Instant::now() < end, "{said:?}");
    }
    let mut doctor = tripod();
    for class in ["CRITICAL", "STANDARD", "DEBUG"] {
        doctor.env(format!("TRIPOD__JOURNAL__{class}_BUDGET_MIB"), "64");
    }
    doctor.env("TRIPOD__JOURNAL__DIR", installed.path("/var/lib/tripod/journals"));
    let said = crate::run::Said::from(doctor.args(["--config", &config, "doctor", "--json"]).output().unwrap());
    let json = said.json();
    let findings = json["findings"].as_array().unwrap();
    let beyond: Vec<_> =
        findings.iter().filter(|finding| !finding["id"].as_str().unwrap().starts_with("machine.")).collect();
    assert!(beyond.is_empty() && json["ok"] == true, "{said:?}");
    // The servers read the stack's own files.
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tripod-stack/conf");
    for file in ["questdb/server.conf", "questdb/log.conf", "postgres/postgresql.conf", "redis/prices.conf"] {
        assert_eq!(
            std::fs::read(installed.path("/etc/tripod").join(file)).unwrap(),
            std::fs::read(conf.join(file)).unwrap()
        );
    }

    // A second time it keeps what the servers know already, and what the operator has changed.
    let secrets = std::fs::read(installed.path("/etc/tripod/secrets/redis-events.acl")).unwrap();
    let own = std::fs::read_to_string(&config).unwrap() + "\n[tape]\nrewind_s = 60\n";
    std::fs::write(&config, &own).unwrap();
    installed.install();
    assert_eq!(std::fs::read(installed.path("/etc/tripod/secrets/redis-events.acl")).unwrap(), secrets);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), own);
}

#[test]
fn what_is_installed_is_readable_by_whom_it_is_for_and_units_are_what_systemd_takes() {
    let installed = Installed::new();
    let mode = |path: &str| std::fs::metadata(installed.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("/etc/tripod/tripod.toml"), 0o600);
    assert_eq!(mode("/etc/tripod/secrets"), 0o700);
    for entry in std::fs::read_dir(installed.path("/etc/tripod/secrets")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    for open in ["/etc/tripod", "/etc/tripod/postgres", "/usr/bin/tripod", "/usr/share/tripod/postgres-init"] {
        assert_eq!(mode(open), 0o755, "{open}");
    }
    let mut there: Vec<String> = std::fs::read_dir(installed.path("/etc/systemd/system"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, UNITS);

    let system = Path::new("/lib/systemd/system");
    if Command::new("systemd-analyze").arg("--version").output().is_err() || !system.join("sysinit.target").exists() {
        eprintln!("systemd-analyze is not here: the units were not verified");
        return;
    }
    // A root with what the units lean on: systemd's own units, and something at the place of each program.
    let copied = Command::new("cp").arg("-r").arg(system).arg(installed.path("/etc/systemd/own")).status().unwrap();
    assert!(copied.success());
    std::fs::create_dir_all(installed.path("/usr/lib/systemd")).unwrap();
    std::fs::rename(installed.path("/etc/systemd/own"), installed.path("/usr/lib/systemd/system")).unwrap();
    std::os::unix::fs::symlink("usr/lib", installed.path("/lib")).unwrap();
    for program in [
        "/usr/bin/java",
        "/usr/bin/install",
        "/usr/bin/redis-server",
        "/bin/kill",
        "/usr/lib/postgresql/15/bin/postgres",
    ] {
        let place = installed.path(program);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy("/bin/true", place).unwrap();
    }
    for unit in UNITS {
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]).arg(format!("--root={}", installed.root.path().display())).arg(unit);
        let done = verify.output().unwrap();
        // What it only warns of leaves the exit code 0.
        assert!(done.status.success() && done.stderr.is_empty(), "{unit}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
