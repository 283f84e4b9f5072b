//! Redis, its sentinels and PostgreSQL over TLS, under an authority of one's own, as everybody runs them. The servers speak
//! it themselves; what is refused says what to do.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::redis::cmd;
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tripod::error::Advice;
use tripod::events::{ConsumerOptions, Events, Start};
use tripod::health::{Health, Status};
use tripod::postgres::Postgres;
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::{Label, Link};
use tripod::signals::{Signal, Signals};
use tripod::{Config, Error, Server, Token, config};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::certificates::Authority;
use crate::redis_link::{PATIENCE, TestRedis, eventually};

/// A handshake in a build without optimisation, on a machine that builds at the same time.
const DEADLINE_MS: u64 = 10_000;

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Opens a port that speaks TLS, beside the plain one.
async fn open_tls(server: &TestRedis, authority: &Authority, until: i32) -> u16 {
    let (certificate, key) = authority.certify_files(until);
    let port = free_port();
    let mut set = cmd("CONFIG");
    set.arg("SET").arg("tls-cert-file").arg(certificate.to_str()).arg("tls-key-file").arg(key.to_str());
    set.arg("tls-ca-cert-file").arg(authority.file.to_str()).arg("tls-auth-clients").arg("no");
    set.arg("tls-port").arg(port);
    set.query_async::<()>(&mut server.ask().await).await.unwrap();
    port
}

/// Both sections lead to `port`, by TLS, and trust `ca_file`.
fn by_tls(server: &TestRedis, port: u16, ca_file: Option<&Path>) -> Config {
    let mut config = server.config();
    for redis in [&mut config.redis.prices, &mut config.redis.events] {
        redis.addresses = vec![format!("127.0.0.1:{port}")];
        (redis.tls, redis.ca_file, redis.deadline_ms) = (true, ca_file.map(Path::to_owned), DEADLINE_MS);
    }
    config
}

fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_go_by_tls_and_so_does_the_feed() {
    let (server, authority) = (TestRedis::prices(), Authority::new("of the tests"));
    let port = open_tls(&server, &authority, 2100).await;
    let prices = Prices::connect(&by_tls(&server, port, Some(&authority.file))).await.unwrap();
    assert_eq!(prices.link().address(), format!("127.0.0.1:{port}"));
    let token = Token::new("SOLUSDT").unwrap();
    let mut watch = prices.watch(&[(token, None)]).await.unwrap();
    let source = Label::new("source", "test").unwrap();
    let update = PriceUpdate { token, value: "152.5".parse().unwrap(), slot: 7, source, venue: None };
    assert_eq!(prices.write(&[update]).await.unwrap().written, 1);
    let change = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(change.price.value.to_string(), "152.5");
    let value: String = cmd("GET").arg("price:SOLUSDT").query_async(&mut server.ask().await).await.unwrap();
    assert_eq!(value, "152.5", "as the server has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_signals_go_by_tls_also_after_their_connections_were_cut() {
    let (server, authority) = (TestRedis::events(), Authority::new("of the tests"));
    let port = open_tls(&server, &authority, 2100).await;
    let config = by_tls(&server, port, Some(&authority.file));
    let events = Events::connect(&config).await.unwrap();
    let signals = Signals::over(events.link().clone(), &config).unwrap();
    let mut heard = signals.subscribe(&["halt"], 16).await.unwrap();
    let options =
        ConsumerOptions { block: Duration::from_secs(30), start: Start::Oldest, ..ConsumerOptions::default() };
    let mut consumer = events.consumer("fills", "readers", options).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    for number in 0..2_u64 {
        let mut reading = tokio::spawn(async move {
            loop {
                // The connection that it blocked on was cut: that is said once, and passes.
                match consumer.next().await {
                    Ok(batch) => break (consumer, batch),
                    Err(Error::Unreachable { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        let mut ask = server.ask().await;
        eventually("the reader blocks", async || {
            let clients: String = cmd("INFO").arg("clients").query_async(&mut ask).await.unwrap();
            clients.contains("blocked_clients:1")
        })
        .await;
        publisher.publish("fill", &number).await.unwrap();
        let (back, batch) = tokio::time::timeout(PATIENCE, &mut reading).await.unwrap().unwrap();
        consumer = back;
        assert_eq!(batch.iter().map(|e| e.decode::<u64>().unwrap()).collect::<Vec<_>>(), [number]);
        consumer.ack(&[batch[0].id]).await.unwrap();

        assert_eq!(signals.publish("halt", &number).await.unwrap(), 1);
        loop {
            match tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap() {
                Signal::Resync => assert_eq!(number, 1),
                signal => break assert_eq!(signal.decode::<u64>().unwrap(), number),
            }
        }

        let connections = events.link().connections();
        for kind in ["normal", "pubsub"] {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("TYPE").arg(kind);
            kill.query_async::<u64>(&mut ask).await.unwrap();
        }
        eventually("all are back", async || {
            let subscribed: Vec<(String, u64)> =
                cmd("PUBSUB").arg("NUMSUB").arg("signals:halt").query_async(&mut ask).await.unwrap();
            events.link().connections() > connections && events.link().ping().await.is_ok() && subscribed[0].1 == 1
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_be_trusted_is_refused_and_says_what_to_do() {
    let (server, authority) = (TestRedis::events(), Authority::new("of the tests"));
    let port = open_tls(&server, &authority, 2100).await;
    let refusal = async |config: &Config| {
        let error = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap_err();
        (error.advice(), words(&error))
    };

    let stranger = Authority::new("a stranger's");
    for ca_file in [Some(stranger.file.as_path()), None] {
        let (advice, said) = refusal(&by_tls(&server, port, ca_file)).await;
        assert_eq!(advice, Advice::Fix, "{said}");
        assert!(said.contains("invalid peer certificate") && said.contains("`ca_file`"), "{said}");
    }
    let mut named = by_tls(&server, port, Some(&authority.file));
    named.redis.events.addresses = vec![format!("localhost:{port}")];
    let (advice, said) = refusal(&named).await;
    assert!(advice == Advice::Fix && said.contains("not valid for name"), "{said}");

    let missing = authority.file.with_file_name("nowhere.pem");
    assert!(refusal(&by_tls(&server, port, Some(&missing))).await.1.contains("nowhere.pem"));
    let (_, key) = authority.certify_files(2100);
    let (advice, said) = refusal(&by_tls(&server, port, Some(&key))).await;
    assert!(advice == Advice::Fix && said.contains("no certificate"), "{said}");

    // A port that speaks none, and one that speaks nothing else: neither says so itself.
    let plain = server.config().redis.events.addresses[0].rsplit_once(':').unwrap().1.parse().unwrap();
    let mut config = by_tls(&server, plain, Some(&authority.file));
    config.redis.events.deadline_ms = 2_000;
    let (_, said) = refusal(&config).await;
    assert!(said.contains("TLS"), "{said}");
    config = by_tls(&server, port, None);
    config.redis.events.tls = false;
    let (_, said) = refusal(&config).await;
    assert!(said.contains("`tls = true`"), "{said}");

    // It expires while the server runs: those who are connected stay, and nobody else comes.
    let config = by_tls(&server, port, Some(&authority.file));
    let link = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap();
    let (certificate, key) = authority.certify_files(2021);
    let mut set = cmd("CONFIG");
    set.arg("SET").arg("tls-cert-file").arg(certificate.to_str()).arg("tls-key-file").arg(key.to_str());
    set.query_async::<()>(&mut server.ask().await).await.unwrap();
    link.ping().await.unwrap();
    let (advice, said) = refusal(&config).await;
    assert!(advice == Advice::Fix && said.contains("certificate expired"), "{said}");
}

/// A sentinel of the test's own; a stack's speak no TLS.
struct Sentinel {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(std::fs::remove_dir_all(self.dir.path()));
    }
}

impl Sentinel {
    /// Says that the primary is at `primary`; takes TLS and no other connection.
    fn start(authority: &Authority, primary: u16, until: i32) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let (certificate, key) = authority.certify_files(until);
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport 0\ntls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
             tls-auth-clients no\ntls-replication yes\ndir {}\nsentinel monitor tripod 127.0.0.1 {primary} 1\n",
            certificate.display(),
            key.display(),
            authority.file.display(),
            dir.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), port, dir }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_found_through_a_sentinel_that_speaks_tls() {
    let (server, authority) = (TestRedis::events(), Authority::new("of the tests"));
    let port = open_tls(&server, &authority, 2100).await;
    let sentinel = Sentinel::start(&authority, port, 2100);
    let mut config = by_tls(&server, sentinel.port, Some(&authority.file));
    config.redis.events.mode = config::RedisMode::Sentinel;
    let mut events = None;
    eventually("the sentinel answers", async || {
        events = Events::connect(&config).await.ok();
        events.is_some()
    })
    .await;
    let events = events.unwrap();
    assert_eq!(events.link().address(), format!("127.0.0.1:{port}"));
    events.publisher("fills").unwrap().publish("fill", &1).await.unwrap();
    assert_eq!(events.newest("fills", 10).await.unwrap().len(), 1);
    let said = events.link().quorum().await;
    assert!(said.len() == 1 && said[0].answers, "{said:?}");

    let stranger = Authority::new("a stranger's");
    config.redis.events.ca_file = Some(stranger.file.clone());
    let error = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap_err();
    assert!(words(&error).contains("`ca_file`"), "{error:?}");
    config.redis.events.tls = false;
    let error = Link::connect(&config.redis.events, Server::RedisEvents).await.unwrap_err();
    assert!(words(&error).contains("TLS"), "{error:?}");
}

#[tokio::test]
async fn postgresql_is_trusted_by_its_own_authority_and_no_other() {
    let stack = TestStack::start(Servers::only(ServerName::Postgres)).unwrap();
    let authority = Authority::new("of the tests");
    let (certificate, key) = authority.certify_files(2100);
    let mut config = Config::load(stack.config_path()).unwrap();
    tripod::postgres::migrations::apply(&config.postgres).await.unwrap();

    let socket = stack.socket(ServerName::Postgres).unwrap();
    let port = stack.address(ServerName::Postgres).rsplit_once(':').unwrap().1.parse().unwrap();
    let admin = stack.admin(ServerName::Postgres);
    let mut driver = tokio_postgres::Config::new();
    driver.host_path(&socket).port(port).user(admin.user).password(admin.password()).dbname("postgres");
    let (superuser, connection) = driver.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let handle = |config: &Config| Health::new(Postgres::open(&config.postgres).unwrap());
    config.postgres.hosts = vec![stack.address(ServerName::Postgres)];
    (config.postgres.tls, config.postgres.deadline_ms) = (true, DEADLINE_MS);
    config.postgres.ca_file = Some(authority.file.clone());
    handle(&config).list().await.unwrap_err();

    // Under the names and in the place that the server looks at by itself; its own user may be another one than ours.
    let data = stack.data_path(ServerName::Postgres);
    let owner = std::fs::metadata(&data).unwrap();
    for (from, name) in [(&certificate, "server.crt"), (&key, "server.key")] {
        let to = data.join(name);
        std::fs::copy(from, &to).unwrap();
        std::os::unix::fs::chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    superuser.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually("the server speaks TLS", async || handle(&config).list().await.is_ok()).await;
    let health = handle(&config);
    health.heartbeat("bot", Status::Ok, &json!({}), Duration::from_secs(60)).await.unwrap();
    let encrypted =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'tripod'";
    let encrypted: i64 = superuser.query_one(encrypted, &[]).await.unwrap().get(0);
    assert!(encrypted > 0);

    let stranger = Authority::new("a stranger's");
    for ca_file in [Some(stranger.file.clone()), None] {
        config.postgres.ca_file = ca_file;
        let error = handle(&config).list().await.unwrap_err();
        assert_eq!(error.advice(), Advice::Fix, "{error:?}");
        assert!(words(&error).contains("postgres.ca_file"), "{error:?}");
    }
}
