//! The test stack's PostgreSQL, and a database of its own for each test.
//!
//! Constraints: the administrator of these databases is no superuser: what works here works on a managed server. The
//! server takes 40 connections, so only a few databases are in use at once, however many cores run tests.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, NoTls};
use tripod::config;
use tripod::postgres::{Login, Postgres, migrations};
use tripod_stack::{ServerName, Servers, TestStack};

/// Long enough for a machine that compiles at the same time; tests of deadlines set their own.
const DEADLINE_MS: u64 = 20_000;
/// Databases in use at once: each costs at most ten connections.
const DATABASES_MAX: usize = 3;
/// May make roles, owns the databases, is no superuser.
pub(crate) const ADMIN: &str = "managed_admin";
const ADMIN_PASSWORD: &str = "only-for-tests";
const TEMPLATE: &str = "tripod_template";

/// A database that only one test knows.
pub(crate) struct Database {
    pub(crate) config: config::Postgres,
    _permit: OwnedSemaphorePermit,
}

impl Database {
    /// Without anything in it.
    pub(crate) async fn empty() -> Self {
        Self::create("template0").await
    }

    /// At this program's schema.
    pub(crate) async fn migrated() -> Self {
        static MIGRATED: OnceCell<()> = OnceCell::const_new();
        MIGRATED
            .get_or_init(|| async {
                prepare().await;
                superuser("postgres").await.batch_execute(&create(TEMPLATE, "template0")).await.unwrap();
                migrations::apply(&config_of(TEMPLATE)).await.expect("the template migrates");
            })
            .await;
        Self::create(TEMPLATE).await
    }

    async fn create(template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static FREE: OnceLock<Arc<Semaphore>> = OnceLock::new();
        let free = FREE.get_or_init(|| Arc::new(Semaphore::new(DATABASES_MAX)));
        let permit = Arc::clone(free).acquire_owned().await.unwrap();
        prepare().await;
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        superuser("postgres").await.batch_execute(&create(&name, template)).await.expect("a database for the test");
        Self { config: config_of(&name), _permit: permit }
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

    /// A plain connection of the bot's login, beside the pool.
    pub(crate) async fn bot_login(&self) -> Client {
        let bot = stack().bot(ServerName::Postgres);
        connect(&self.config.database, bot.user, bot.password()).await
    }

    /// A plain connection of the administrator's login.
    pub(crate) async fn admin_login(&self) -> Client {
        connect(&self.config.database, ADMIN, ADMIN_PASSWORD).await
    }
}

/// The stack that all these tests share; it ends with this process.
pub(crate) fn stack() -> &'static TestStack {
    static STACK: OnceLock<TestStack> = OnceLock::new();
    STACK.get_or_init(|| TestStack::start(Servers::only(ServerName::Postgres)).expect("PostgreSQL for the tests"))
}

/// Asks again until the answer is true; fails naming `what` when it is not within ten seconds.
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        let log = stack().log_path(ServerName::Postgres);
        assert!(Instant::now() < deadline, "{what}: not within ten seconds; the server's log is {}", log.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn prepare() {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    PREPARED
        .get_or_init(|| async {
            let sql = format!("CREATE ROLE {ADMIN} LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}'");
            superuser("postgres").await.batch_execute(&sql).await.unwrap();
        })
        .await;
}

fn create(name: &str, template: &str) -> String {
    format!("CREATE DATABASE {name} OWNER {ADMIN} TEMPLATE {template}")
}

/// By the socket, while the plain connections go by TCP: both kinds of address are used.
fn config_of(database: &str) -> config::Postgres {
    let socket = stack().socket(ServerName::Postgres).unwrap();
    let mut config = config::Postgres::default();
    config.hosts = vec![format!("{}:{}", socket.display(), port())];
    config.database = database.into();
    config.user = stack().bot(ServerName::Postgres).user.into();
    config.password = stack().bot(ServerName::Postgres).password().to_owned().into();
    config.admin_user = ADMIN.into();
    config.admin_password = ADMIN_PASSWORD.to_owned().into();
    config.deadline_ms = DEADLINE_MS;
    config
}

fn port() -> u16 {
    stack().address(ServerName::Postgres).rsplit_once(':').unwrap().1.parse().unwrap()
}

async fn superuser(database: &str) -> Client {
    let admin = stack().admin(ServerName::Postgres);
    connect(database, admin.user, admin.password()).await
}

async fn connect(database: &str, user: &str, password: &str) -> Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(port())
        .user(user)
        .password(password)
        .dbname(database)
        .connect(NoTls)
        .await
        .unwrap_or_else(|e| {
            panic!("{user} to {database}: {e:?}; see {}", stack().log_path(ServerName::Postgres).display())
        });
    tokio::spawn(connection);
    client
}
