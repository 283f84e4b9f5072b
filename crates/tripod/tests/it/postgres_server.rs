//! One PostgreSQL for this test binary, and a database of its own for each test.
//!
//! Constraints: free port, temporary folder, nothing left behind, also when the tests are killed: a small shell holds
//! the server, reads from a pipe whose other end is this process, and when that ends it stops the server and removes
//! the folder. The administrator is no superuser: what works here works on a managed server.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};
use tripod::config;
use tripod::postgres::{Login, Postgres, migrations};

/// Long enough for a machine that compiles at the same time; tests of deadlines set their own.
const DEADLINE_MS: u64 = 20_000;
const STARTED_WITHIN: Duration = Duration::from_secs(60);
const PASSWORD: &str = "only-for-tests";
const ADMIN: &str = "tripod_admin";
const BOT: &str = "tripod_bot";
const TEMPLATE: &str = "tripod_template";

/// Stops the server and removes its folder when the pipe closes. `$1` is the folder, the rest starts the server.
const GUARDIAN: &str = r#"
dir=$1; shift
"$@" >"$dir/server.log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT $server; wait $server
rm -rf "$dir"
"#;

struct Server {
    directory: PathBuf,
    port: u16,
    bin: PathBuf,
    /// Holds the pipe open for as long as this process lives.
    _guardian: Child,
}

/// A database that only one test knows.
pub(crate) struct Database {
    pub(crate) config: config::Postgres,
}

impl Database {
    /// Without anything in it.
    pub(crate) async fn empty() -> Self {
        Self::create("template0").await
    }

    /// At this program's schema.
    pub(crate) async fn migrated() -> Self {
        static MIGRATED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        MIGRATED
            .get_or_init(|| async {
                let server = server();
                superuser("postgres").await.batch_execute(&create(TEMPLATE, "template0")).await.unwrap();
                migrations::apply(&server.config(TEMPLATE)).await.expect("the template migrates");
            })
            .await;
        Self::create(TEMPLATE).await
    }

    async fn create(template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        superuser("postgres").await.batch_execute(&create(&name, template)).await.expect("a database for the test");
        Self { config: server().config(&name) }
    }

    /// The bot's handle.
    pub(crate) fn bot(&self) -> Postgres {
        Postgres::open(&self.config).unwrap()
    }

    /// The operator's handle.
    pub(crate) fn operator(&self) -> Postgres {
        Postgres::open_as(&self.config, Login::Admin, self.config.deadline()).unwrap()
    }

    /// A plain connection that may look at everything, to ask the server itself.
    pub(crate) async fn superuser(&self) -> Client {
        superuser(&self.config.database).await
    }

    /// A plain connection of a login, beside the pool.
    pub(crate) async fn login(&self, user: &str) -> Client {
        connect(&self.config.database, user).await
    }
}

/// The folder with the server's programs.
pub(crate) fn bin() -> &'static Path {
    &server().bin
}

/// Asks again until the answer is true; fails naming `what` when it is not within ten seconds.
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn create(name: &str, template: &str) -> String {
    format!("CREATE DATABASE {name} OWNER {ADMIN} TEMPLATE {template}")
}

async fn superuser(database: &str) -> Client {
    connect(database, "postgres").await
}

async fn connect(database: &str, user: &str) -> Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(server().port)
        .user(user)
        .password(PASSWORD)
        .dbname(database)
        .connect(NoTls)
        .await
        .unwrap_or_else(|e| panic!("{user} to {database}: {e:?}"));
    tokio::spawn(connection);
    client
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start().unwrap_or_else(|e| panic!("PostgreSQL for the tests: {e}")))
}

impl Server {
    fn config(&self, database: &str) -> config::Postgres {
        let mut config = config::Postgres::default();
        // The socket for the pool, so that both kinds of address are used here.
        config.hosts = vec![format!("{}:{}", self.directory.display(), self.port)];
        config.database = database.into();
        config.password = PASSWORD.to_owned().into();
        config.admin_password = PASSWORD.to_owned().into();
        config.deadline_ms = DEADLINE_MS;
        config
    }

    fn start() -> std::io::Result<Self> {
        let bin = newest_installation().ok_or_else(|| std::io::Error::other("is not installed"))?;
        let directory = tempfile::Builder::new().prefix("tripod-test-postgres-").tempdir()?.keep();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let started = Self::start_in(&directory, &bin, port);
        if started.is_err() {
            std::fs::remove_dir_all(&directory)?;
        }
        Ok(Self { _guardian: started?, directory, port, bin })
    }

    fn start_in(directory: &Path, bin: &Path, port: u16) -> std::io::Result<Child> {
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(directory))?;
        }
        let data = directory.join("data");
        let password = directory.join("password");
        std::fs::write(&password, PASSWORD)?;
        run(unprivileged(&bin.join("initdb"))
            .args(["-U", "postgres", "-A", "scram-sha-256", "--locale=C", "-E", "UTF8", "--no-sync"])
            .arg("--pwfile")
            .arg(&password)
            .arg("-D")
            .arg(&data))?;
        let mut conf = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        writeln!(
            conf,
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n\
             max_connections = 200\nshared_buffers = 64MB\nclient_connection_check_interval = 1s",
            directory.display()
        )?;
        drop(conf);
        let server = unprivileged(&bin.join("postgres"));
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARDIAN, "sh"]).arg(directory).arg(server.get_program()).args(server.get_args());
        guardian.arg("-D").arg(&data);
        // A group of its own: Ctrl-C at the tests must not reach the guardian before its work.
        std::os::unix::process::CommandExt::process_group(&mut guardian, 0);
        let guardian = guardian.env("LC_ALL", "C").current_dir("/").stdin(Stdio::piped()).spawn()?;
        wait_for_ready(&data)?;
        run(Command::new(bin.join("psql"))
            .env("PGPASSWORD", PASSWORD)
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres"])
            .args(["-p", &port.to_string(), "-c"])
            .arg(format!(
                "CREATE ROLE {ADMIN} LOGIN CREATEROLE PASSWORD '{PASSWORD}'; CREATE ROLE {BOT} LOGIN PASSWORD '{PASSWORD}'"
            )))?;
        Ok(guardian)
    }
}

/// The eighth line of its own file says `ready`; no connection is needed to ask.
fn wait_for_ready(data: &Path) -> std::io::Result<()> {
    let deadline = Instant::now() + STARTED_WITHIN;
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if text.lines().nth(7).is_some_and(|state| state.trim() == "ready") {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "polls a condition, with a deadline")]
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(std::io::Error::other("did not start within a minute"))
}

fn newest_installation() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) -> std::io::Result<()> {
    let output = command.env("LC_ALL", "C").current_dir("/").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
