use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// How every certificate in the file begins.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Private certificate authorities that vouch for all servers: a file of PEM certificates.
///
/// The drivers of MongoDB, NATS and Redis trust these instead of the public ones, the driver of Elasticsearch in
/// addition to them: a file for servers of both kinds holds both. The file is read once, with the settings, so that a
/// wrong path stops the process before it begins. Some drivers take the certificates, some the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsAuthorities {
    path: Arc<Path>,
    pem: Arc<str>,
}

/// Why a file holds no certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum TlsAuthoritiesError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is something else, such as a key or a certificate in another form.
    #[error("contains no PEM certificate, which begins with {CERTIFICATE}")]
    NoCertificate,
}

impl TlsAuthorities {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file held: one or more certificates in PEM form.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

impl FromStr for TlsAuthorities {
    type Err = TlsAuthoritiesError;

    fn from_str(path: &str) -> Result<Self, TlsAuthoritiesError> {
        let pem = std::fs::read_to_string(path)?;
        if !pem.contains(CERTIFICATE) {
            return Err(TlsAuthoritiesError::NoCertificate);
        }
        Ok(Self { path: PathBuf::from(path).into(), pem: pem.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_no_certificate_is_refused_with_what_it_should_hold() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| folder.path().join(name).to_str().unwrap().parse::<TlsAuthorities>();
        assert!(matches!(read("absent.pem"), Err(TlsAuthoritiesError::Unreadable(_))));

        std::fs::write(folder.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\nsecret\n").unwrap();
        let refusal = read("key.pem").unwrap_err().to_string();
        assert!(refusal.contains(CERTIFICATE) && !refusal.contains("secret"), "{refusal}");

        let pem = format!("{CERTIFICATE}\nMIIB\n-----END CERTIFICATE-----\n");
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        let authorities = read("ca.pem").unwrap();
        assert_eq!((authorities.pem(), authorities.path()), (pem.as_str(), folder.path().join("ca.pem").as_path()));
    }
}
