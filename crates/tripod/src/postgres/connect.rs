//! From `[postgres]` to the driver's configuration: addresses, login, TLS, and every limit that a connection carries.
//!
//! Constraints: `tls = true` never ends in a plain connection; a server that ends statements does so before our own
//! deadline, so that its answer says why; a peer that vanished is noticed by the kernel within seconds.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config;
use crate::error::{Error, Result};

/// First keepalive probe after this much silence, seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Pause between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Probes without an answer before the kernel gives the connection up.
const KEEPALIVE_RETRIES: u32 = 3;
/// Sent bytes that nobody acknowledges end the connection after this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// The server ends a transaction in which nothing happens for this long: longer than any pause of ours, shorter than
/// what a forgotten lock may cost the others.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// Which of the two logins of `[postgres]` a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// `user`: the bot, member of `tripod_writer`.
    Bot,
    /// `admin_user`: migrations, settings, audits; member of `tripod_owner` and `tripod_operator`.
    Admin,
}

impl Login {
    /// The login's name in `config`.
    #[must_use]
    pub fn user(self, config: &config::Postgres) -> &str {
        match self {
            Self::Bot => &config.user,
            Self::Admin => &config.admin_user,
        }
    }
}

/// One entry of `postgres.hosts`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16 },
    Socket { directory: String, port: u16 },
}

impl Address {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("postgres.hosts `{text}`"), why.to_owned());
        let (place, port) =
            text.rsplit_once(':').ok_or_else(|| wrong("has no port; write host:port or /directory:port"))?;
        let port = port.parse().map_err(|_| wrong("has a port that is not a number up to 65535"))?;
        let host = place.strip_prefix('[').and_then(|p| p.strip_suffix(']')).unwrap_or(place);
        match host {
            "" => Err(wrong("has no host; write host:port or /directory:port")),
            directory if directory.starts_with('/') => Ok(Self::Socket { directory: directory.to_owned(), port }),
            host => Ok(Self::Tcp { host: host.to_owned(), port }),
        }
    }
}

/// All of `postgres.hosts`.
pub(super) fn addresses(config: &config::Postgres) -> Result<Vec<Address>> {
    if config.hosts.is_empty() {
        return Err(Error::invalid("postgres.hosts", "is empty; name at least one host:port"));
    }
    let parse = |text: &String| match Address::parse(text)? {
        Address::Socket { .. } if config.tls => Err(Error::invalid(
            format!("postgres.hosts `{text}`"),
            "is a unix socket, which has no TLS; write host:port, or tls = false",
        )),
        address => Ok(address),
    };
    config.hosts.iter().map(parse).collect()
}

/// The driver's configuration, complete but for servers and TLS. `deadline` is that of one call; the limits that the
/// server and the connection attempt get are parts of it.
pub(super) fn driver_config(config: &config::Postgres, login: Login, deadline: Duration) -> tokio_postgres::Config {
    let password = match login {
        Login::Bot => &config.password,
        Login::Admin => &config.admin_password,
    };
    let mut driver = tokio_postgres::Config::new();
    driver
        .user(login.user(config))
        .password(password.expose_secret())
        .dbname(&config.database)
        .application_name("tripod")
        .options(server_limits(deadline))
        .ssl_mode(if config.tls { SslMode::Require } else { SslMode::Disable })
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(deadline / 3)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    driver
}

/// The limits that the server itself keeps for this connection. The statement's is two thirds of the call's deadline:
/// what the server ends, it explains; what only we end stays unexplained.
fn server_limits(deadline: Duration) -> String {
    let statement_ms = (deadline * 2 / 3).as_millis().max(1);
    let lock_ms = (deadline / 2).as_millis().max(1);
    let idle_ms = IDLE_IN_TRANSACTION.max(deadline).as_millis();
    format!(
        "-c statement_timeout={statement_ms} -c lock_timeout={lock_ms} -c idle_in_transaction_session_timeout={idle_ms}"
    )
}

/// TLS that checks the server's certificate and name: against the certificates of a PEM file and no other, or against the
/// operating system's store.
pub(crate) fn tls_connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect> {
    let roots = match ca_file {
        Some(file) => authorities(file)?,
        None => system_authorities()?,
    };
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::invalid("tls", e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn system_authorities() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // A store with one unreadable file among hundreds is usual; an empty one is not.
    let (added, _unreadable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(Error::invalid(
            "tls",
            "the system has no certificate authorities; install ca-certificates, or name a file in ca_file",
        ));
    }
    Ok(roots)
}

fn authorities(file: &Path) -> Result<RootCertStore> {
    let pem = std::fs::read(file).map_err(|source| Error::File { what: "read", path: file.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    let (added, _other) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if added == 0 {
        return Err(Error::invalid(format!("ca_file {}", file.display()), "holds no certificate in PEM"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_or_a_socket_directory_and_always_has_a_port() {
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        assert_eq!(Address::parse("db.example:5432").unwrap(), tcp("db.example", 5432));
        assert_eq!(Address::parse("[::1]:5433").unwrap(), tcp("::1", 5433));
        let socket = Address::Socket { directory: "/run/postgresql".into(), port: 5432 };
        assert_eq!(Address::parse("/run/postgresql:5432").unwrap(), socket);
        for bad in ["", "host", ":5432", "host:", "host:x", "host:65536", "/run/postgresql"] {
            assert!(Address::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn tls_is_never_given_up_for_a_socket() {
        let hosts = vec!["/run/postgresql:5432".into()];
        let mut config = config::Postgres { tls: true, hosts, ..Default::default() };
        let error = addresses(&config).unwrap_err();
        assert!(error.to_string().contains("tls"), "{error}");
        config.hosts = vec!["db:5432".into()];
        addresses(&config).unwrap();
        let driver = driver_config(&config, Login::Bot, Duration::from_secs(1));
        assert_eq!(driver.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn the_server_ends_a_statement_before_we_do() {
        let options = server_limits(Duration::from_millis(900));
        assert_eq!(
            options,
            "-c statement_timeout=600 -c lock_timeout=450 -c idle_in_transaction_session_timeout=10000"
        );
    }
}
