//! From a URL to a client: the server, the credentials, the trusted authorities and the time limit of calls.

use std::time::Duration;

use elasticsearch::Elasticsearch;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Url;
use elasticsearch::http::headers::{ACCEPT_ENCODING, HeaderValue};
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use percent_encoding::percent_decode_str;

use crate::config::TlsAuthorities;

/// How long any call may take: a full-size bulk on a busy node takes a few seconds.
const CALL_MAX: Duration = Duration::from_secs(15);

/// The user name that marks the password in a URL as an API key; it is the name of the HTTP scheme.
const API_KEY: &str = "ApiKey";

/// How to reach Elasticsearch, besides its URL.
#[derive(Clone, Debug)]
pub struct ElasticOptions {
    /// Certificate authorities to trust besides the public ones.
    pub authorities: Option<TlsAuthorities>,
    /// How long a call may take before its outcome is unknown.
    pub call_max: Duration,
}

impl Default for ElasticOptions {
    fn default() -> Self {
        Self { authorities: None, call_max: CALL_MAX }
    }
}

/// Why the index was not opened. Neither the URL nor a certificate is quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElasticOpenError {
    /// The URL is invalid, or not an HTTP one.
    #[error("invalid Elasticsearch URL, it must be like https://user:password@localhost:9200: {0}")]
    Url(Box<str>),
    /// The certificates of the operator's own authorities cannot be used.
    #[error("cannot use the certificate authorities (--tls-ca) for Elasticsearch: {0}")]
    Certificates(Box<str>),
    /// The server is of an earlier release than this bank can work with.
    #[error("Elasticsearch {found} is too old: upgrade it to version {needed} or newer, or use another server")]
    TooOld {
        /// The version of the oldest node.
        found: Box<str>,
        /// The first version that is new enough.
        needed: u32,
    },
}

/// A client as the index uses it; also for measuring the server without the bank. It sends nothing yet.
///
/// # Errors
/// [`ElasticOpenError`] says what is wrong with the URL or the certificates.
pub fn client(url: &str, options: &ElasticOptions) -> Result<Elasticsearch, ElasticOpenError> {
    let mut url = Url::parse(url).map_err(|error| ElasticOpenError::Url(error.to_string().into()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(ElasticOpenError::Url("not http:// or https://".into()));
    }
    let credentials = credentials(&url)?;
    // The driver's errors may show the URL.
    for stripped in [url.set_username(""), url.set_password(None)] {
        stripped.map_err(|()| ElasticOpenError::Url("it cannot hold a user".into()))?;
    }
    let mut transport = TransportBuilder::new(SingleNodeConnectionPool::new(url))
        .timeout(options.call_max)
        // Otherwise compressed answers are requested, which for bulks costs the server more than it saves.
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .disable_proxy();
    if let Some(credentials) = credentials {
        transport = transport.auth(credentials);
    }
    if let Some(authorities) = &options.authorities {
        let certificates = Certificate::from_pem(authorities.pem().as_bytes()).map_err(uncertified)?;
        transport = transport.cert_validation(CertificateValidation::Full(certificates));
    }
    Ok(Elasticsearch::new(transport.build().map_err(uncertified)?))
}

fn uncertified(error: impl std::fmt::Display) -> ElasticOpenError {
    ElasticOpenError::Certificates(error.to_string().into())
}

fn credentials(url: &Url) -> Result<Option<Credentials>, ElasticOpenError> {
    let decoded = |part: &str| {
        let decoded = percent_decode_str(part).decode_utf8();
        decoded.map(String::from).map_err(|_| ElasticOpenError::Url("the user or password is not UTF-8".into()))
    };
    let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    Ok(match (user.as_str(), password.as_str()) {
        ("", "") => None,
        // It becomes a header; the driver takes its validity for granted.
        (API_KEY, key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Err(ElasticOpenError::Url("the API key must be the value that Elasticsearch calls encoded".into()));
        }
        (API_KEY, _) => Some(Credentials::EncodedApiKey(password)),
        _ => Some(Credentials::Basic(user, password)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Option<Credentials>, ElasticOpenError> {
        credentials(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_names_a_user_or_an_api_key() {
        assert!(of("http://localhost:9200").unwrap().is_none());
        let Some(Credentials::Basic(user, password)) = of("https://ann:p%40ss%2Fword@host").unwrap() else { panic!() };
        assert_eq!((user.as_str(), password.as_str()), ("ann", "p@ss/word"));
        let Some(Credentials::EncodedApiKey(key)) = of("https://ApiKey:VnVh%2Bw==@host").unwrap() else { panic!() };
        assert_eq!(key, "VnVh+w==");
        let refusal = of("https://ApiKey:two%20words@host").unwrap_err().to_string();
        assert!(!refusal.contains("words"), "{refusal}");
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n").unwrap();
        let authorities = Some(path.to_str().unwrap().parse().unwrap());
        let refused = client("https://localhost", &ElasticOptions { authorities, ..ElasticOptions::default() });
        assert!(matches!(refused, Err(ElasticOpenError::Certificates(_))));
    }
}
