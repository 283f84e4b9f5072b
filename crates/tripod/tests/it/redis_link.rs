//! The link against a real Redis that is killed, stopped, restarted, misconfigured.
//!
//! Each test that breaks something has a server of its own ([`TestRedis`]), set up as the product sets it up: the bot's
//! user of these tests may do what a bot in production may.

use std::time::{Duration, Instant};

use tripod::audit::{self, Severity};
use tripod::redis::Link;
use tripod::{Config, Error, Server};
use tripod_stack::{ServerName, Servers, TestStack};

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The deadline of one call in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_millis(400);

/// One Redis of the product's stack, alone.
pub(crate) struct TestRedis {
    stack: TestStack,
    name: ServerName,
}

impl TestRedis {
    /// The instance for prices: nothing survives its restart.
    pub(crate) fn prices() -> Self {
        Self::start(ServerName::RedisPrices)
    }

    /// The instance for events and signals: what it acknowledged survives its restart.
    pub(crate) fn events() -> Self {
        Self::start(ServerName::RedisEvents)
    }

    fn start(name: ServerName) -> Self {
        Self { stack: TestStack::start(Servers::only(name)).unwrap(), name }
    }

    /// kill -9
    pub(crate) fn kill(&self) {
        self.stack.kill(self.name).unwrap();
    }

    /// Starts it again and waits until it answers.
    pub(crate) fn restart(&self) {
        self.stack.start_server(self.name).unwrap();
    }

    /// Where it keeps its data.
    pub(crate) fn data_path(&self) -> std::path::PathBuf {
        self.stack.data_path(self.name)
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.stack.log_path(self.name)).unwrap()
    }

    /// The config file that the stack wrote, for other processes.
    pub(crate) fn config_path(&self) -> std::path::PathBuf {
        self.stack.config_path()
    }

    /// It accepts connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.stack.freeze(self.name);
    }

    pub(crate) fn thaw(&self) {
        self.stack.thaw(self.name);
    }

    /// The config that the stack wrote, with a deadline that a test can wait for; through TCP.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::load(self.stack.config_path()).unwrap();
        for redis in [&mut config.redis.prices, &mut config.redis.events] {
            redis.deadline_ms = u64::try_from(DEADLINE.as_millis()).unwrap();
        }
        config
    }

    /// The same through its unix socket.
    pub(crate) fn socket_config(&self) -> Config {
        let mut config = self.config();
        let socket = self.stack.socket(self.name).unwrap().display().to_string();
        for redis in [&mut config.redis.prices, &mut config.redis.events] {
            redis.addresses = vec![socket.clone()];
        }
        config
    }

    /// A connection of the tests' own, as the administrator, to ask the server itself.
    pub(crate) async fn ask(&self) -> ::redis::aio::MultiplexedConnection {
        let admin = self.stack.admin(self.name);
        let url = format!("redis://{}:{}@{}", admin.user, admin.password(), self.stack.address(self.name));
        ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
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
    let server = TestRedis::prices();
    for config in [server.config(), server.socket_config()] {
        let link = Link::connect(&config.redis.prices, Server::RedisPrices).await.unwrap();
        assert!(link.ping().await.unwrap() < DEADLINE);
        assert_eq!(link.address(), config.redis.prices.addresses[0]);
        let instance = link.instance().await.unwrap();
        assert!(instance.major() >= 7, "{}", instance.version);
        assert_eq!(instance.role, "master");
    }
}

#[tokio::test]
async fn a_wrong_login_is_refused_and_its_password_is_never_shown() {
    let server = TestRedis::events();
    let mut config = server.config().redis.events;
    config.password = "very-secret-and-wrong".to_owned().into();
    let error = Link::connect(&config, Server::RedisEvents).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { code: Some(code), .. } if code == "WRONGPASS"), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("very-secret"), "{error:?}");
    assert!(!format!("{config:?}").contains("very-secret"));
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
    let server = TestRedis::events();
    for config in [server.config(), server.socket_config()] {
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
        server.restart();
        eventually("the link is back", async || link.ping().await.is_ok()).await;
        assert_eq!(link.connections(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_a_deadline_and_not_more() {
    let server = TestRedis::events();
    let config = server.config();
    let link = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap();
    server.freeze();
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
    server.thaw();
    eventually("the link is back", async || link.ping().await.is_ok()).await;
}

#[tokio::test]
async fn the_last_handle_ends_the_connections() {
    let server = TestRedis::events();
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
    let found = async |kind: Server, section: &tripod::config::Redis| -> Vec<(&'static str, Severity)> {
        let link = Link::connect_admin(section, kind).await.unwrap();
        let found = audit::redis::look_at_settings(&link, section).await.unwrap();
        assert!(found.iter().all(|departure| departure.what.contains(&kind.to_string())), "{found:?}");
        found.into_iter().map(|departure| (departure.id, departure.severity)).collect()
    };
    // The stack's own two are as they should be; one used for the other's purpose is not.
    let (prices, events) = (TestRedis::prices(), TestRedis::events());
    let (prices, events) = (prices.config().redis.prices, events.config().redis.events);
    assert_eq!(found(Server::RedisPrices, &prices).await, []);
    assert_eq!(found(Server::RedisEvents, &events).await, []);
    let both = ["redis.memory-policy", "redis.append-only"];
    assert_eq!(found(Server::RedisEvents, &prices).await, both.map(|id| (id, Severity::Wrong)));
    assert_eq!(found(Server::RedisPrices, &events).await, both.map(|id| (id, Severity::Advice)));

    let mut unknown = events.clone();
    unknown.user = "nobody".into();
    assert_eq!(found(Server::RedisEvents, &unknown).await, [("redis.bot-user", Severity::Wrong)]);
    // As the bot's user, which may not look at users: said, and no error.
    let link = Link::connect(&events, Server::RedisEvents).await.unwrap();
    let found = audit::redis::look_at_settings(&link, &events).await.unwrap();
    assert_eq!(found.iter().map(|departure| departure.id).collect::<Vec<_>>(), ["redis.unknown"]);
}

/// A primary, a replica and one sentinel, without passwords, in a temporary directory.
struct Trio {
    directory: tempfile::TempDir,
    ports: [u16; 3],
    children: Vec<std::process::Child>,
}

impl Trio {
    const PRIMARY: usize = 0;
    const REPLICA: usize = 1;
    const SENTINEL: usize = 2;

    async fn start() -> Self {
        let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(held);
        let directory = tempfile::tempdir().unwrap();
        let mut trio = Self { directory, ports, children: Vec::new() };
        let [primary, replica, sentinel] = ports;
        trio.spawn("primary", &format!("port {primary}\nrepl-diskless-sync-delay 0\n"), &[]);
        trio.spawn("replica", &format!("port {replica}\nreplicaof 127.0.0.1 {primary}\n"), &[]);
        eventually("the replica follows", async || {
            trio.ask(Self::REPLICA, &["INFO", "replication"]).await.is_some_and(|text| text.contains("link_status:up"))
        })
        .await;
        let monitor = format!(
            "port {sentinel}\nsentinel monitor tripod 127.0.0.1 {primary} 1\nsentinel down-after-milliseconds tripod 2000\n"
        );
        trio.spawn("sentinel", &monitor, &["--sentinel"]);
        eventually("the sentinel knows the replica", async || {
            trio.ask(Self::SENTINEL, &["INFO", "sentinel"]).await.is_some_and(|text| text.contains("slaves=1"))
        })
        .await;
        trio
    }

    fn spawn(&mut self, name: &str, settings: &str, arguments: &[&str]) {
        let directory = self.directory.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        let conf = directory.join("redis.conf");
        let common = format!("bind 127.0.0.1\ndir {0}\nlogfile {0}/redis.log\n", directory.display());
        std::fs::write(&conf, common + settings).unwrap();
        let binary = std::env::var_os("TRIPOD_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = std::process::Command::new(binary);
        let child = command.arg(conf).args(arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
        self.children.push(child);
    }

    async fn ask(&self, which: usize, words: &[&str]) -> Option<String> {
        let client = ::redis::Client::open(("127.0.0.1", self.ports[which])).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        ::redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.redis.events.mode = tripod::config::RedisMode::Sentinel;
        // The first sentinel is not there; the second is asked.
        config.redis.events.addresses = vec!["127.0.0.1:1".into(), format!("127.0.0.1:{}", self.ports[Self::SENTINEL])];
        config
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_sentinels_the_link_follows_the_primary() {
    let trio = Trio::start().await;
    let config = trio.config();
    let events = tripod::events::Events::connect(&config).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    assert_eq!(events.link().address(), format!("127.0.0.1:{}", trio.ports[Trio::PRIMARY]));
    publisher.publish("fill", &1).await.unwrap();
    eventually("the replica has it", async || {
        trio.ask(Trio::REPLICA, &["EXISTS", "events:fills"]).await.as_deref() == Some("1")
    })
    .await;

    // Refused until the sentinel has asked the replica how far it is.
    eventually("the sentinel begins a failover", async || {
        trio.ask(Trio::SENTINEL, &["SENTINEL", "FAILOVER", "tripod"]).await.as_deref() == Some("OK")
    })
    .await;
    let replica = format!("127.0.0.1:{}", trio.ports[Trio::REPLICA]);
    eventually("the link leads to the new primary", async || {
        // A publish on the way may go to the old primary, or nowhere; it must not hang or panic.
        let _ = publisher.publish("fill", &2).await;
        events.link().address() == replica && events.link().is_connected()
    })
    .await;
    let id = publisher.publish("fill", &3).await.unwrap().to_string();
    let mut there =
        ::redis::Client::open(format!("redis://{replica}")).unwrap().get_multiplexed_async_connection().await.unwrap();
    let role: Vec<::redis::Value> = ::redis::cmd("ROLE").query_async(&mut there).await.unwrap();
    assert_eq!(role[0], ::redis::Value::BulkString(b"master".to_vec()));
    let found: Vec<(String, ::redis::Value)> =
        ::redis::cmd("XRANGE").arg("events:fills").arg(&id).arg(&id).query_async(&mut there).await.unwrap();
    assert_eq!(found.len(), 1, "the event is not on the new primary");

    // A name that no sentinel knows is said as such.
    let mut unknown = config.redis.events.clone();
    unknown.primary_name = "nobody".into();
    let error = Link::connect(&unknown, Server::RedisEvents).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { address, .. } if address.contains("nobody")), "{error:?}");
}
