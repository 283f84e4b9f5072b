//! The link against a real Redis that is killed, stopped, restarted, misconfigured.
//!
//! Each test has a server of its own ([`TestRedis`]), with the default user off and a bot's user that may not do what a
//! bot must not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tripod::redis::{FindingAction, Link, check_instance};
use tripod::{Config, Error, Server};

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The deadline of one call in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_millis(400);

const PASSWORD: &str = "only-for-tests";

/// A redis-server in a temporary directory, on a unix socket and a loopback port; ends with its handle.
pub(crate) struct TestRedis {
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl TestRedis {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {socket}\ndir {dir}\nlogfile {dir}/redis.log\ndaemonize no\n\
             save \"\"\nappendonly yes\nappendfsync everysec\nmaxmemory 256mb\nmaxmemory-policy noeviction\n\
             user default off\n\
             user tripod_bot on >{PASSWORD} ~* &* +@all -@dangerous -@admin\n\
             user tripod_admin on >{PASSWORD} ~* &* +@all\n",
            socket = directory.path().join("redis.sock").display(),
            dir = directory.path().display(),
        );
        std::fs::write(directory.path().join("redis.conf"), conf).unwrap();
        let mut server = Self { directory, port, child: None };
        server.restart().await;
        server
    }

    /// Starts it (again) and waits until it answers; its append-only file brings back what was in it.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let binary = std::env::var_os("TRIPOD_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let child = Command::new(binary)
            .arg(self.directory.path().join("redis.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let config = self.config();
        eventually("redis-server answers", async || {
            match Link::connect_admin(&config.redis.events, Server::RedisEvents).await {
                Ok(link) => link.ping().await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }

    /// kill -9
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by name, e.g. STOP.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("the server runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// A config whose two instances are this server, through its unix socket.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        for redis in [&mut config.redis.prices, &mut config.redis.events] {
            redis.addresses = vec![self.socket().display().to_string()];
            redis.password = PASSWORD.to_owned().into();
            redis.admin_password = PASSWORD.to_owned().into();
            redis.deadline_ms = u64::try_from(DEADLINE.as_millis()).unwrap();
        }
        config
    }

    /// The same through TCP.
    pub(crate) fn tcp_config(&self) -> Config {
        let mut config = self.config();
        for redis in [&mut config.redis.prices, &mut config.redis.events] {
            redis.addresses = vec![format!("127.0.0.1:{}", self.port)];
        }
        config
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// A connection of the tests' own, to ask the server itself.
    pub(crate) async fn ask(&self) -> ::redis::aio::MultiplexedConnection {
        let url = format!("redis+unix://{}?user=tripod_admin&pass={PASSWORD}", self.socket().display());
        ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("redis.log")
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{}.log", self.port));
            let copied = std::fs::copy(self.log(), &kept);
            eprintln!("redis-server's log: {} ({copied:?})", kept.display());
        }
        self.kill();
    }
}

/// Waits for a condition, asking every few milliseconds; panics when it does not come.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test]
async fn it_connects_by_unix_socket_and_by_tcp_and_knows_the_server() {
    let server = TestRedis::start().await;
    for config in [server.config(), server.tcp_config()] {
        let link = Link::connect_admin(&config.redis.prices, Server::RedisPrices).await.unwrap();
        assert!(link.ping().await.unwrap() < DEADLINE);
        assert_eq!(link.address(), config.redis.prices.addresses[0]);
        let instance = link.instance().await.unwrap();
        assert!(instance.major() >= 7, "{}", instance.version);
        assert_eq!(instance.role, "master");
    }
}

#[tokio::test]
async fn a_wrong_login_is_refused_and_its_password_is_never_shown() {
    let server = TestRedis::start().await;
    let mut config = server.config().redis.events;
    config.password = "very-secret-and-wrong".to_owned().into();
    let error = Link::connect(&config, Server::RedisEvents).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("very-secret"), "{error:?}");
    assert!(!format!("{config:?}").contains("very-secret"));

    // The bot's user may not look into the server; that is refused, not unreachable.
    let link = Link::connect(&server.config().redis.events, Server::RedisEvents).await.unwrap();
    let error = link.instance().await.unwrap_err();
    assert!(matches!(&error, Error::Refused { code: Some(code), .. } if code == "NOPERM"), "{error:?}");
    assert!(link.is_connected());
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_names_the_address() {
    let mut config = Config::default().redis.prices;
    config.addresses = vec!["127.0.0.1:1".into()];
    let error = Link::connect(&config, Server::RedisPrices).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { address, .. } if address == "127.0.0.1:1"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_fails_calls_at_once_and_its_restart_is_found_by_itself() {
    let mut server = TestRedis::start().await;
    for config in [server.config(), server.tcp_config()] {
        let link = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap();
        link.ping().await.unwrap();
        server.kill();
        let start = Instant::now();
        for _ in 0..50 {
            let error = link.ping().await.unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        }
        // Fifty calls within one call's deadline: none waits for the reconnect.
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        assert_eq!(link.connections(), 1);
        server.restart().await;
        eventually("the link is back", async || link.ping().await.is_ok()).await;
        assert_eq!(link.connections(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_a_deadline_and_not_more() {
    let server = TestRedis::start().await;
    let config = server.tcp_config();
    let link = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap();
    server.signal("STOP");
    let start = Instant::now();
    let error = link.ping().await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!((DEADLINE..2 * DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
    // The supervisor takes the connection out of use; from then on calls do not even wait that long.
    eventually("calls fail at once", async || {
        let start = Instant::now();
        matches!(link.ping().await, Err(Error::Unreachable { .. })) && start.elapsed() < DEADLINE / 4
    })
    .await;
    server.signal("CONT");
    eventually("the link is back", async || link.ping().await.is_ok()).await;
}

#[tokio::test]
async fn the_last_handle_ends_the_connections() {
    let server = TestRedis::start().await;
    let mut ask = server.ask().await;
    let clients = async |ask: &mut ::redis::aio::MultiplexedConnection| {
        let list: String = ::redis::cmd("CLIENT").arg("LIST").query_async(ask).await.unwrap();
        list.lines().filter(|line| line.contains("user=tripod_bot")).count()
    };
    let link = Link::connect(&server.config().redis.events, Server::RedisEvents).await.unwrap();
    let other = link.clone();
    assert_eq!(clients(&mut ask).await, 1);
    drop(link);
    other.ping().await.unwrap();
    drop(other);
    eventually("no connection is left", async || clients(&mut ask).await == 0).await;
}

#[tokio::test]
async fn the_settings_of_an_instance_are_judged_by_what_it_is_for() {
    let server = TestRedis::start().await;
    let config = server.config();
    // The test's server is set up for events. Used for prices as well, two things are worth a thought.
    for (kind, section, expected) in [
        (Server::RedisEvents, &config.redis.events, vec![]),
        (Server::RedisPrices, &config.redis.prices, vec!["maxmemory-policy", "appendonly"]),
    ] {
        let link = Link::connect_admin(section, kind).await.unwrap();
        let findings = check_instance(&link, section).await.unwrap();
        let wrong: Vec<&str> =
            findings.iter().filter(|f| f.action != FindingAction::None).map(|f| f.object.as_str()).collect();
        assert_eq!(wrong, expected, "{findings:#?}");
        assert!(findings.iter().any(|f| f.object == "user tripod_bot" && f.server == kind));
    }
    let mut section = config.redis.events.clone();
    section.user = "nobody".into();
    let link = Link::connect_admin(&config.redis.events, Server::RedisEvents).await.unwrap();
    let findings = check_instance(&link, &section).await.unwrap();
    assert!(findings.iter().any(|f| f.object == "user nobody" && f.action == FindingAction::Change), "{findings:#?}");
}
