//! What the bench stands on: the own stack's PostgreSQL, and a database of its own there.

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::{SinkExt as _, TryStreamExt as _};
use tripod::Config;
use tripod::config;
use tripod::postgres::{Login, Postgres, migrations};
use tripod::tokens::Address;
use tripod_stack::ServerName;

use crate::args::Global;
use crate::exit::Stop;

const DATABASE: &str = "tripod_bench_tokens";
/// Making a million tokens takes the longest.
const DEADLINE: Duration = Duration::from_secs(600);
/// Bytes of one message of a COPY.
const COPY_BYTES: usize = 64 * 1024;
/// Mints that are read in turn: more than a cache of the processor holds.
const SOME_MINTS: i64 = 200_000;

/// Tables with the columns, checks and keys of the store's, and nothing else.
const RAW_TABLES: &str = "
DROP SCHEMA IF EXISTS raw CASCADE;
CREATE SCHEMA raw;
CREATE TABLE raw.tokens (LIKE tripod.tokens INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (mint));
CREATE TABLE raw.token_extensions (LIKE tripod.token_extensions INCLUDING CONSTRAINTS,
                                   PRIMARY KEY (mint, number, occurrence))";

/// Beside those that the bulk upsert stored with their extensions: with a name and a symbol, without an extension.
const FILL: &str = "
INSERT INTO tripod.tokens (mint, program, supply, slot, write_version, decimals, name, symbol, symbol_normalised, named_by,
                           source, on_chain_at)
SELECT sha256(i::text::bytea), decode(repeat('06', 32), 'hex'), i, 1, 0, 6, 'Token number ' || i, 'T' || i, 't' || i,
       'chain', 'bench', now()
FROM generate_series(1, $1::int - (SELECT count(*)::int FROM tripod.tokens)) AS i";

/// See the module.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) config: config::Postgres,
    /// The bot's handle.
    pub(super) bot: Postgres,
    admin: Postgres,
    /// On the stack's own database.
    keeper: Postgres,
}

impl Rig {
    /// Refuses a server that is not this data directory's own; makes the database and its schema.
    pub(super) async fn set(global: &Global) -> anyhow::Result<Self> {
        let config = global.load()?;
        own_postgres(&config, &global.data)?;
        let keeper = Postgres::open_as(&config.postgres, Login::Admin, DEADLINE)?;
        drop_database(&keeper).await?;
        let create = format!("CREATE DATABASE {DATABASE}");
        keeper.call("make the bench's database", async |client| Ok(client.batch_execute(&create).await?)).await?;
        let mut config = config.postgres;
        config.database = DATABASE.to_owned();
        let bot = Postgres::open_as(&config, Login::Bot, DEADLINE)?;
        let admin = Postgres::open_as(&config, Login::Admin, DEADLINE)?;
        let rig = Self { config, bot, admin, keeper };
        if let Err(error) = migrations::apply(&rig.config).await {
            rig.clear().await?;
            return Err(error.into());
        }
        Ok(rig)
    }

    /// Removes the database.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        drop_database(&self.keeper).await
    }

    pub(super) async fn version(&self) -> anyhow::Result<String> {
        let version = self.admin.call("ask the version", async |client| {
            Ok(client.query_one("SELECT current_setting('server_version')", &[]).await?.try_get(0)?)
        });
        Ok(version.await?)
    }

    /// Takes all tokens out.
    pub(super) async fn empty(&self) -> anyhow::Result<()> {
        let work = async |client: &mut tripod::postgres::Client| {
            Ok(client.batch_execute("TRUNCATE tripod.tokens CASCADE; CHECKPOINT").await?)
        };
        Ok(self.admin.call("empty the bench's tables", work).await?)
    }

    /// Copies what the store holds, byte for byte, into empty tables; how long the COPY itself took.
    pub(super) async fn copy_the_same(&self) -> anyhow::Result<Duration> {
        let took = self.admin.call("copy the same bytes", async |client| {
            client.batch_execute(RAW_TABLES).await?;
            let mut took = Duration::ZERO;
            for table in ["tokens", "token_extensions"] {
                let out = format!("COPY tripod.{table} TO STDOUT (FORMAT binary)");
                let rows: Vec<_> = client.copy_out(&out).await?.try_collect().await?;
                let bytes = rows.concat();
                client.batch_execute("CHECKPOINT").await?;
                let started = Instant::now();
                let copy = format!("COPY raw.{table} FROM STDIN (FORMAT binary)");
                let mut sink = std::pin::pin!(client.copy_in::<_, Cursor<Vec<u8>>>(&copy).await?);
                for part in bytes.chunks(COPY_BYTES) {
                    sink.as_mut().feed(Cursor::new(part.to_vec())).await?;
                }
                sink.finish().await?;
                took += started.elapsed();
            }
            Ok(took)
        });
        Ok(took.await?)
    }

    /// Makes it `count` tokens.
    pub(super) async fn fill(&self, count: u32) -> anyhow::Result<()> {
        let count = i32::try_from(count)?;
        let filled = self.admin.call("make a million tokens", async |client| {
            client.execute(FILL, &[&count]).await?;
            client.batch_execute("VACUUM (ANALYZE) tripod.tokens, tripod.token_extensions").await?;
            Ok(())
        });
        Ok(filled.await?)
    }

    /// Mints that are there, in no order.
    pub(super) async fn some_mints(&self) -> anyhow::Result<Vec<Address>> {
        let rows = self.admin.call("read some mints", async |client| {
            let sql = "SELECT mint FROM tripod.tokens ORDER BY sha256(mint) LIMIT $1";
            Ok(client.query(sql, &[&SOME_MINTS]).await?)
        });
        rows.await?
            .iter()
            .map(|row| Ok(Address::new_from_array(row.try_get::<_, Vec<u8>>(0)?.try_into().ok().context("32 bytes")?)))
            .collect()
    }
}

async fn drop_database(keeper: &Postgres) -> anyhow::Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
    Ok(keeper.call("drop the bench's database", async |client| Ok(client.batch_execute(&drop).await?)).await?)
}

/// PostgreSQL of this data directory's own stack. The config must name it and no other.
fn own_postgres(config: &Config, data: &Path) -> anyhow::Result<()> {
    let hint = "leave --config out and give the stack's directory with --data; `tripod up` starts one";
    let servers = tripod_stack::check(data)?;
    let Some(own) = servers.into_iter().find(|server| server.name == ServerName::Postgres) else {
        let what = format!("there is no PostgreSQL of a local stack in {}", data.display());
        return Err(Stop::refused(what, hint).into());
    };
    let own_port = own.address.rsplit(':').next().unwrap_or_default();
    let is_own = |host: &String| {
        *host == own.address
            || host.rsplit_once(':').is_some_and(|(dir, port)| port == own_port && Path::new(dir).starts_with("/"))
    };
    match config.postgres.hosts.iter().find(|host| !is_own(host)) {
        None => Ok(()),
        Some(other) => {
            let what = format!("PostgreSQL at {other} is not the one of the stack in {}", data.display());
            Err(Stop::refused(what, hint).into())
        }
    }
}
