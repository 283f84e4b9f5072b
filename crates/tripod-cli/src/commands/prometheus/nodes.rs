//! Where each Redis node is, for an exporter: a fixed address, or the primary that the sentinels name and its replicas.

use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use secrecy::ExposeSecret as _;
use tripod::config::{Config, Redis, RedisMode};
use tripod::redis::{Link, Transport};
use tripod::{Error, Server};

use crate::exit::Stop;

/// A node takes a login and one question within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The nodes of both instances, as `redis://HOST:PORT`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    pub(super) prices: Vec<String>,
    pub(super) events: Vec<String>,
}

impl Nodes {
    /// As far as the config says: behind sentinels nobody has a fixed address.
    pub(super) fn of_config(config: &Config) -> anyhow::Result<Self> {
        Ok(Self { prices: fixed(&config.redis.prices)?, events: fixed(&config.redis.events)? })
    }

    /// The same, and behind sentinels those that there are now.
    pub(super) async fn of_servers(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            prices: found(&config.redis.prices, Server::RedisPrices).await?,
            events: found(&config.redis.events, Server::RedisEvents).await?,
        })
    }
}

fn fixed(redis: &Redis) -> anyhow::Result<Vec<String>> {
    match redis.mode {
        RedisMode::Sentinel => Ok(Vec::new()),
        RedisMode::Single => redis.addresses.iter().map(|address| url(address, redis)).collect(),
    }
}

async fn found(redis: &Redis, server: Server) -> anyhow::Result<Vec<String>> {
    if redis.mode == RedisMode::Single {
        return fixed(redis);
    }
    let primary = Link::connect_admin(redis, server).await?.address();
    let mut connection = connect(&url(&primary, redis)?, redis, server).await?;
    let info: String =
        redis::cmd("INFO").arg("replication").query_async(&mut connection).await.context(primary.clone())?;
    let mut nodes = vec![url(&primary, redis)?];
    for replica in replicas(&info) {
        nodes.push(url(&replica, redis)?);
    }
    Ok(nodes)
}

/// `HOST:PORT` of each in "slave0:ip=127.0.0.1,port=6380,state=online,…".
fn replicas(info: &str) -> Vec<String> {
    let lines = info.lines().filter_map(|line| line.strip_prefix("slave")?.split_once(":ip="));
    lines
        .filter_map(|(_, facts)| {
            let (host, rest) = facts.split_once(",port=")?;
            Some(format!("{host}:{}", rest.split(',').next()?))
        })
        .collect()
}

fn url(address: &str, redis: &Redis) -> anyhow::Result<String> {
    if address.starts_with('/') {
        let what = format!("the exporter is given addresses, and {address} is a unix socket");
        return Err(Stop::usage(what, "name HOST:PORT in tripod.toml; a local stack listens there, too").into());
    }
    Ok(format!("{}://{address}", if redis.tls { "rediss" } else { "redis" }))
}

/// A connection to one node as the administrator.
pub(super) async fn connect(url: &str, redis: &Redis, server: Server) -> anyhow::Result<MultiplexedConnection> {
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    let password = redis.admin_password.expose_secret();
    if !password.is_empty() {
        login = login.set_username(&redis.admin_user).set_password(password);
    }
    let mut address: ConnectionAddr =
        url.into_connection_info().with_context(|| format!("{url} is no address"))?.addr().clone();
    if let ConnectionAddr::TcpTls { host, port, .. } = &address {
        address = Transport::new(redis)?.address(host.clone(), *port);
    }
    let client = redis::Client::open(address.into_connection_info()?.set_redis_settings(login))?;
    let late = |_| Error::Deadline { server, what: format!("log in at {url}"), after: ANSWER_WITHIN };
    let mut connection = tokio::time::timeout(ANSWER_WITHIN, client.get_multiplexed_async_connection())
        .await
        .map_err(late)?
        .with_context(|| format!("cannot log in at {url} as {}", redis.admin_user))?;
    connection.set_response_timeout(ANSWER_WITHIN);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read_from_what_the_primary_says() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                    slave0:ip=127.0.0.1,port=6380,state=online,offset=5,lag=0\r\n\
                    slave1:ip=10.0.0.9,port=6381,state=online,offset=5,lag=1\r\nmaster_replid:x\r\n";
        assert_eq!(replicas(info), ["127.0.0.1:6380", "10.0.0.9:6381"]);
        assert!(
            replicas("# Replication\r\nrole:master\r\nconnected_slaves:0\r\nslave_expires_tracked_keys:0\r\n")
                .is_empty()
        );
    }

    #[test]
    fn a_socket_is_refused_and_tls_is_in_the_address() {
        let mut config = Config::default();
        config.redis.events.tls = true;
        assert!(fixed(&config.redis.events).unwrap()[0].starts_with("rediss://"));
        config.redis.prices.addresses = vec!["/run/redis.sock".to_owned()];
        assert!(Nodes::of_config(&config).unwrap_err().to_string().contains("/run/redis.sock"));
    }
}
