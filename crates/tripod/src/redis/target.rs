//! Where a connection goes: a fixed address, or wherever the sentinels say the primary is.
//!
//! Constraints: TCP_NODELAY is set by hand (off in redis-rs 1.x, which doubles the latency on a LAN); the library name is
//! not sent (one round trip that Redis before 7.2 answers with an error); with sentinels, a server that does not call
//! itself a master is not taken, whatever the sentinels said.

use std::time::Duration;

use ::redis::aio::{AsyncPushSender, MultiplexedConnection};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError, RedisResult, cmd,
};
use secrecy::ExposeSecret;

use tokio::time::timeout;

use super::Login;
use super::sentinels::Sentinels;
use super::transport::Transport;
use crate::config::{Redis, RedisMode};
use crate::error::{Error, Result, Server};

/// The heartbeat and the first question on each connection: HELLO without arguments changes nothing, is allowed to every
/// user, and tells the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Replica,
}

/// How long a primary that the sentinels name may take to take a login.
const NAMED_WITHIN: Duration = Duration::from_millis(500);

pub(super) struct Target {
    /// Of a single server.
    address: Option<ConnectionAddr>,
    /// Where there are sentinels.
    sentinels: Option<Sentinels>,
    login: RedisConnectionInfo,
    transport: Transport,
}

/// A connection and where it leads.
pub(super) struct Opened {
    pub(super) connection: MultiplexedConnection,
    pub(super) address: String,
    /// Of the sentinels' view that led here.
    pub(super) epoch: u64,
}

impl Target {
    pub(super) fn new(config: &Redis, server: Server, login: Login) -> Result<Self> {
        let section = section_of(server);
        let transport = Transport::new(config)?;
        let addresses = config
            .addresses
            .iter()
            .map(|text| parse_address(text, &transport).ok_or_else(|| wrong_address(section, text)))
            .collect::<Result<Vec<_>>>()?;
        match (config.mode, addresses.len()) {
            (_, 0) => return Err(Error::invalid(format!("{section}.addresses"), "is empty")),
            (RedisMode::Single, 2..) => {
                let why = "has several addresses; mode = \"single\" takes one (for sentinels: mode = \"sentinel\")";
                return Err(Error::invalid(format!("{section}.addresses"), why));
            }
            _ => {}
        }
        let (user, password) = match login {
            Login::Bot => (&config.user, &config.password),
            Login::Admin => (&config.admin_user, &config.admin_password),
        };
        // Without a password there is nothing to log in with: the server's default user answers or refuses.
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if !password.expose_secret().is_empty() {
            info = info.set_username(user).set_password(password.expose_secret());
        }
        let (address, sentinels) = match config.mode {
            RedisMode::Single => (addresses.into_iter().next(), None),
            RedisMode::Sentinel => {
                let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
                let password = config.sentinel_password.expose_secret();
                if !password.is_empty() {
                    login = login.set_password(password);
                    if !config.sentinel_user.is_empty() {
                        login = login.set_username(&config.sentinel_user);
                    }
                }
                (None, Some(Sentinels { addresses, primary_name: config.primary_name.clone(), login }))
            }
        };
        Ok(Self { address, sentinels, login: info, transport })
    }

    /// For errors and logs, before and between connections.
    pub(super) fn describe(&self) -> String {
        match &self.sentinels {
            None => self.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            Some(sentinels) => {
                let list: Vec<String> = sentinels.addresses.iter().map(ToString::to_string).collect();
                format!("{} by the sentinels {}", sentinels.primary_name, list.join(","))
            }
        }
    }

    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        self.sentinels.as_ref()
    }

    pub(super) fn into_sentinels(self) -> Option<Sentinels> {
        self.sentinels
    }

    /// Opens a connection to the primary. The caller puts its own deadline around it; `within` bounds the parts.
    ///
    /// Requests on it have no deadline of the driver's own, which would be one timer more for each call.
    pub(super) async fn open(&self, within: Duration) -> RedisResult<Opened> {
        self.open_with(ProtocolVersion::RESP2, AsyncConnectionConfig::new().set_connection_timeout(Some(within))).await
    }

    /// The same for pub/sub: what the server pushes goes to `sender`, which must not block.
    pub(super) async fn open_for_pushes(&self, within: Duration, sender: impl AsyncPushSender) -> RedisResult<Opened> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_push_sender(sender);
        self.open_with(ProtocolVersion::RESP3, config).await
    }

    async fn open_with(&self, protocol: ProtocolVersion, config: AsyncConnectionConfig) -> RedisResult<Opened> {
        let config = config.set_response_timeout(None);
        let Some(sentinels) = &self.sentinels else {
            let address = self.address.clone().ok_or_else(nobody_knows)?;
            let text = address.to_string();
            let client = client(address, self.login.clone().set_protocol(protocol))?;
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            return Ok(Opened { connection, address: text, epoch: 0 });
        };
        let view = sentinels.ask().await?;
        let (text, epoch) = (view.address(), view.epoch);
        let client = client(self.transport.address(view.host, view.port), self.login.clone().set_protocol(protocol))?;
        // A primary that hangs must not use up the time in which the sentinels name another one.
        let opening = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let role = role(&mut connection).await?;
            Ok::<_, RedisError>((connection, role))
        };
        let hangs = |_| RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, "the primary hangs"));
        let (connection, role) = timeout(NAMED_WITHIN, opening).await.map_err(hangs)??;
        if role == Role::Replica {
            let what = "the sentinels named a server that is a replica; the failover is not finished";
            return Err(RedisError::from((ErrorKind::Io, what)));
        }
        Ok(Opened { connection, address: text, epoch })
    }

    /// What an error met while connecting is to say besides: a port that speaks no TLS, or nothing but TLS, does not
    /// answer in words that tell it.
    pub(super) fn advise(&self, error: RedisError) -> RedisError {
        let dropped = error.is_connection_dropped() && !error.is_connection_refusal();
        let not_tls = error.is_io_error() && error.to_string().contains("corrupt message");
        let step = match self.transport.is_tls() {
            true if dropped || not_tls || error.is_timeout() => "does this port speak TLS? `tls = true` asks for it",
            false if dropped || error.kind() == ErrorKind::Parse => "if this port speaks TLS, set `tls = true`",
            _ => return error,
        };
        RedisError::from(std::io::Error::other(format!("{error}; {step}")))
    }

    /// The same of a connection that was not made in time.
    pub(super) fn connecting(&self) -> &'static str {
        if self.transport.is_tls() { "connecting by TLS, which this port may not speak," } else { "connecting" }
    }
}

/// Asks the server whether it is a primary.
pub(super) async fn role(connection: &mut MultiplexedConnection) -> RedisResult<Role> {
    let facts: std::collections::HashMap<String, ::redis::Value> = cmd("HELLO").query_async(connection).await?;
    let role = facts.get("role").and_then(|value| ::redis::from_redis_value_ref::<String>(value).ok());
    Ok(if role.as_deref() == Some("replica") { Role::Replica } else { Role::Primary })
}

/// The config's section of a server, for errors that name a key.
pub(super) fn section_of(server: Server) -> &'static str {
    match server {
        Server::RedisPrices => "redis.prices",
        _ => "redis.events",
    }
}

pub(super) fn client(address: ConnectionAddr, login: RedisConnectionInfo) -> RedisResult<Client> {
    let info = address
        .into_connection_info()?
        .set_tcp_settings(TcpSettings::default().set_nodelay(true))
        .set_redis_settings(login);
    Client::open(info)
}

pub(super) fn nobody_knows() -> RedisError {
    RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no sentinel knows a primary of this name"))
}

/// `host:port`, `[v6]:port`, or `/path` of a unix socket.
fn parse_address(text: &str, transport: &Transport) -> Option<ConnectionAddr> {
    if text.starts_with('/') {
        return (!transport.is_tls()).then(|| ConnectionAddr::Unix(text.into()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| transport.address(host, port))
}

fn wrong_address(section: &str, text: &str) -> Error {
    Error::invalid(
        format!("{section}.addresses"),
        format!("has `{text}`; wanted `host:port`, or `/path` of a unix socket (which takes no TLS)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_or_a_socket() {
        let transport = |tls| Transport::new(&Redis { tls, ..Redis::default() }).unwrap();
        let parse_address = |text: &str, tls| parse_address(text, &transport(tls));
        assert_eq!(parse_address("10.0.0.5:6379", false), Some(ConnectionAddr::Tcp("10.0.0.5".into(), 6379)));
        assert_eq!(parse_address("[::1]:6379", false), Some(ConnectionAddr::Tcp("::1".into(), 6379)));
        assert_eq!(parse_address("/run/redis.sock", false), Some(ConnectionAddr::Unix("/run/redis.sock".into())));
        for wrong in ["", "localhost", "host:", ":6379", "host:0", "host:65536", "host:x"] {
            assert_eq!(parse_address(wrong, false), None, "{wrong}");
        }
        assert_eq!(parse_address("/run/redis.sock", true), None);
        assert!(matches!(
            parse_address("db:6379", true),
            Some(ConnectionAddr::TcpTls { port: 6379, insecure: false, .. })
        ));
    }

    #[test]
    fn a_single_server_with_two_addresses_is_refused_by_name() {
        let mut config = Redis::default();
        config.addresses.push("127.0.0.1:1".into());
        let error = Target::new(&config, Server::RedisEvents, Login::Bot).err().map(|e| e.to_string());
        assert!(error.as_deref().is_some_and(|e| e.contains("redis.events.addresses")), "{error:?}");
    }
}
