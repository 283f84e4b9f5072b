//! Whether connections to Redis and to its sentinels are encrypted, and whom they trust.
//!
//! Constraints: `tls = true` never ends in a plain connection; the server's certificate and name are always checked, against
//! the authorities of `ca_file` and no other, or against the operating system's store.
//!
//! The driver takes rustls' cryptography from the process and panics where it cannot tell which of two it is to take. So ring
//! is put there before the first connection, unless the bot has chosen one already.

use std::fmt;
use std::path::Path;

use ::redis::{Client, ConnectionAddr, TlsCertificates};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config;
use crate::error::{Error, Result};

/// How the connections of one section of the config are made.
#[derive(Clone)]
pub struct Transport {
    /// With TLS: an address that holds whom to trust, to be given another host and port.
    pattern: Option<ConnectionAddr>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("tls", &self.is_tls()).finish_non_exhaustive()
    }
}

impl Transport {
    /// As `config` says. Reads `ca_file`, if there is one.
    ///
    /// # Errors
    /// [`Error::File`] where `ca_file` cannot be read; [`Error::Invalid`] where it holds no certificate.
    pub fn new(config: &config::Redis) -> Result<Self> {
        if !config.tls {
            return Ok(Self { pattern: None });
        }
        if CryptoProvider::get_default().is_none() {
            // Refused where another thread was quicker, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let any = ConnectionAddr::TcpTls { host: "localhost".into(), port: 1, insecure: false, tls_params: None };
        let pattern = match &config.ca_file {
            None => any,
            Some(file) => {
                let trusted = TlsCertificates { client_tls: None, root_cert: Some(authorities(file)?) };
                let client = Client::build_with_tls(any, trusted)
                    .map_err(|error| Error::invalid(format!("ca_file {}", file.display()), error.to_string()))?;
                client.get_connection_info().addr().clone()
            }
        };
        Ok(Self { pattern: Some(pattern) })
    }

    /// Whether they are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.pattern.is_some()
    }

    /// Where a connection goes, for the driver.
    #[must_use]
    pub fn address(&self, host: String, port: u16) -> ConnectionAddr {
        let Some(mut address) = self.pattern.clone() else { return ConnectionAddr::Tcp(host, port) };
        if let ConnectionAddr::TcpTls { host: its_host, port: its_port, .. } = &mut address {
            (*its_host, *its_port) = (host, port);
        }
        address
    }
}

/// The file, which holds one certificate at least.
fn authorities(file: &Path) -> Result<Vec<u8>> {
    let pem = std::fs::read(file).map_err(|source| Error::File { what: "read", path: file.to_owned(), source })?;
    let (added, _other) =
        RootCertStore::empty().add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if added == 0 {
        return Err(Error::invalid(format!("ca_file {}", file.display()), "holds no certificate in PEM"));
    }
    Ok(pem)
}
