//! Certificates of the tests' own: an authority, and what it certifies for 127.0.0.1.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub(crate) file: PathBuf,
    dir: TempDir,
}

/// A certificate of 127.0.0.1 and its key.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file, dir }
    }

    /// A certificate of 127.0.0.1, valid until 1 January of `until`.
    pub(crate) fn certify(&self, until: i32) -> Certificate {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// The same as two files for a server, certificate and key; they live as long as the authority.
    pub(crate) fn certify_files(&self, until: i32) -> (PathBuf, PathBuf) {
        let made = self.certify(until);
        let (certificate, key) = (self.dir.path().join("server.pem"), self.dir.path().join("server.key"));
        std::fs::write(&certificate, made.pem).unwrap();
        private(&key, &made.key.serialize_pem());
        (certificate, key)
    }
}

/// For its owner alone, as PostgreSQL wants a key.
fn private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
