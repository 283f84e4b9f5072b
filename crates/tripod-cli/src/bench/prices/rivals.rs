//! What stands beside: the driver as its documentation shows it, and Redis' own `redis-benchmark`.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use redis::aio::MultiplexedConnection;
use secrecy::ExposeSecret as _;
use tokio::process::Command;
use tripod::{Config, Uuid};

const RAW_PREFIX: &str = "bench-raw:";
const USER: &str = "tripod_bench";
const PROGRAM: &str = "redis-benchmark";
const PROGRAM_WITHIN: Duration = Duration::from_secs(60);

async fn connect(config: &Config, as_admin: bool) -> anyhow::Result<MultiplexedConnection> {
    let server = &config.redis.prices;
    let (user, password) =
        if as_admin { (&server.admin_user, &server.admin_password) } else { (&server.user, &server.password) };
    let address = server.addresses.first().context("the config names no Redis")?;
    let (host, port) = address.rsplit_once(':').context("the raw client needs TCP")?;
    let mut login = redis::RedisConnectionInfo::default();
    if !password.expose_secret().is_empty() {
        login = login.set_username(user).set_password(password.expose_secret());
    }
    let address = redis::ConnectionAddr::Tcp(host.to_owned(), port.parse()?);
    let info = redis::IntoConnectionInfo::into_connection_info(address)?
        .set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true))
        .set_redis_settings(login);
    Ok(redis::Client::open(info)?.get_multiplexed_async_connection().await?)
}

/// Pipelined `SET key decimal PX ttl`, no guard, no message, no promise.
pub(super) struct Raw {
    connection: MultiplexedConnection,
    ttl_ms: u64,
}

impl Raw {
    pub(super) async fn connect(config: &Config) -> anyhow::Result<Self> {
        Ok(Self { connection: connect(config, false).await?, ttl_ms: config.prices.ttl_ms })
    }

    /// Writes one batch; gives when it began, its own preparation left out as Tripod's is.
    pub(super) async fn set_batch(&mut self, batch: usize, number: u32) -> anyhow::Result<Instant> {
        let values: Vec<(u64, i64)> = (0..).zip((0_i64..).map(|n| n + i64::from(number))).take(batch).collect();
        let started = Instant::now();
        let (mut commands, mut key) = (redis::Pipeline::with_capacity(batch), String::new());
        for (token, value) in values {
            key.clear();
            // Into a String it cannot fail.
            let _ = write!(key, "{RAW_PREFIX}price:Bench1111111111111111111111111111111111{token:05}");
            let value = tripod::Decimal::new(152_125_000 + value, 6).to_string();
            commands.cmd("SET").arg(&key).arg(value).arg("PX").arg(self.ttl_ms).ignore();
        }
        commands.query_async::<()>(&mut self.connection).await?;
        Ok(started)
    }
}

/// `redis-benchmark`, with a user of its own for as long as it is needed.
pub(super) struct Benchmark {
    admin: MultiplexedConnection,
    host: String,
    port: String,
    password: String,
}

impl Benchmark {
    /// None where the program is not installed.
    pub(super) async fn set(config: &Config) -> anyhow::Result<Option<Self>> {
        let mut version = Command::new(PROGRAM);
        version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if version.status().await.is_err() {
            tracing::warn!("{PROGRAM} is not installed; its figures are left out");
            return Ok(None);
        }
        let address = config.redis.prices.addresses.first().context("the config names no Redis")?;
        let (host, port) = address.rsplit_once(':').context("the config names no TCP address")?;
        // It takes its password as an argument, which every user of the machine can see: so this one is worth nothing.
        let password = Uuid::new_v4().simple().to_string();
        let mut admin = connect(config, true).await?;
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg(USER).arg("reset").arg("on").arg(format!(">{password}"));
        user.arg(format!("~{RAW_PREFIX}*")).arg("+get").arg("+set").arg("+config|get");
        user.exec_async(&mut admin).await?;
        Ok(Some(Self { admin, host: host.to_owned(), port: port.to_owned(), password }))
    }

    pub(super) async fn clear(mut self) -> anyhow::Result<()> {
        redis::cmd("ACL").arg("DELUSER").arg(USER).exec_async(&mut self.admin).await?;
        Ok(())
    }

    /// `SET … PX` a second, 100 at once.
    pub(super) async fn set_pipelined(&self) -> anyhow::Result<u64> {
        let key = format!("{RAW_PREFIX}x");
        let rps = self.run(&["-P", "100", "-n", "200000"], &["SET", &key, "152.125000", "PX", "2000"], 1).await?;
        rps.split('.').next().unwrap_or_default().parse().context("redis-benchmark gave no rate")
    }

    /// The median of one GET after another, microseconds.
    pub(super) async fn get_p50_us(&self) -> anyhow::Result<u64> {
        let key = format!("{RAW_PREFIX}x");
        let millis = self.run(&["-n", "20000"], &["GET", &key], 4).await?;
        let (whole, part) = millis.split_once('.').unwrap_or((&millis, "0"));
        let part = format!("{part:0<3}");
        let part: u64 = part.get(..3).unwrap_or("0").parse()?;
        Ok(whole.parse::<u64>()? * 1000 + part)
    }

    /// One column of its answer.
    async fn run(&self, options: &[&str], command: &[&str], column: usize) -> anyhow::Result<String> {
        let mut program = Command::new(PROGRAM);
        program.args(["-h", &self.host, "-p", &self.port, "--user", USER, "-a", &self.password, "-c", "1", "--csv"]);
        program.args(options).args(command).stdin(Stdio::null()).kill_on_drop(true);
        let output =
            tokio::time::timeout(PROGRAM_WITHIN, program.output()).await.context("redis-benchmark hangs")??;
        let text = String::from_utf8_lossy(&output.stdout);
        // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",…
        let line = text.lines().rfind(|line| line.starts_with('"'));
        let Some(cell) = line.and_then(|line| line.split("\",\"").nth(column)) else {
            bail!("redis-benchmark says {} {}", text.trim(), String::from_utf8_lossy(&output.stderr).trim());
        };
        Ok(cell.trim_matches('"').to_owned())
    }
}
