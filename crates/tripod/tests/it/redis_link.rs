//! The link against a real Redis that is killed, stopped, restarted, misconfigured.
//!
//! Each test that breaks something has a server of its own ([`TestRedis`]), set up as the product sets it up: the bot's
//! user of these tests may do what a bot in production may.

use std::time::{Duration, Instant};

use tripod::redis::{FindingAction, Link, check_instance};
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
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
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
    let wrong = async |kind: Server, section: &tripod::config::Redis| -> Vec<(String, FindingAction)> {
        let link = Link::connect_admin(section, kind).await.unwrap();
        let findings = check_instance(&link, section).await.unwrap();
        assert!(findings.iter().all(|f| f.server == kind && !f.detail.is_empty()));
        findings.into_iter().filter(|f| f.action != FindingAction::None).map(|f| (f.object, f.action)).collect()
    };
    // The stack's own two are as they should be; one used for the other's purpose is not.
    let (prices, events) = (TestRedis::prices(), TestRedis::events());
    let (prices, events) = (prices.config().redis.prices, events.config().redis.events);
    assert_eq!(wrong(Server::RedisPrices, &prices).await, []);
    assert_eq!(wrong(Server::RedisEvents, &events).await, []);
    let change = |object: &str| (object.to_owned(), FindingAction::Change);
    let consider = |object: &str| (object.to_owned(), FindingAction::Consider);
    assert_eq!(wrong(Server::RedisEvents, &prices).await, [change("maxmemory-policy"), change("appendonly")]);
    assert_eq!(wrong(Server::RedisPrices, &events).await, [consider("maxmemory-policy"), consider("appendonly")]);

    let mut unknown = events.clone();
    unknown.user = "nobody".into();
    assert_eq!(wrong(Server::RedisEvents, &unknown).await, [change("user nobody")]);
    // As the bot's user, which may not look at users: said, and no error.
    let link = Link::connect(&events, Server::RedisEvents).await.unwrap();
    let findings = check_instance(&link, &events).await.unwrap();
    assert!(findings.iter().any(|f| f.object == "user tripod_bot" && f.action == FindingAction::Unknown));
}
