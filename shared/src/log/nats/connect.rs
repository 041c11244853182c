//! The connection to NATS: who we are, whom we trust, and whether the server can keep a log at all.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::context::AccountErrorKind;
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{ConnectOptions, Event, ServerAddr};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::NatsOpenError;
use super::failure::CALL_MAX;
use crate::config::TlsAuthorities;
use crate::error::BackendError;

/// How often the server is pinged, so that one that vanished silently is noticed.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How long the client waits before it connects again.
const RECONNECT_WAIT: Duration = Duration::from_millis(250);

/// The message size that the server must accept: the bank's messages, headers included, stay well below it
/// ([`crate::log::body`]).
pub(super) const PAYLOAD_BYTES_MIN: usize = 256 * 1024;

/// The scheme of addresses that are never contacted in plain text.
const TLS: &str = "tls";

/// How to reach NATS, and what to ask of it.
#[derive(Clone, Copy, Default)]
pub struct NatsOptions<'a> {
    /// `nats://…` or `tls://…`, several separated by commas. A user and a password, or a token instead of a user, may
    /// precede the first host.
    pub url: &'a str,
    /// The certificate authorities to trust instead of those of the system.
    pub authorities: Option<&'a TlsAuthorities>,
    /// A credentials file (JWT and seed), as `nsc` writes it.
    pub credentials: Option<&'a Path>,
    /// How many servers store each partition; by default three in a cluster, and one if the server is alone.
    pub replicas: Option<u8>,
}

/// Connects as a log does; also for measuring the server without the bank.
///
/// # Errors
/// [`NatsOpenError`] says what is wrong and what to do about it.
pub async fn connect(asked: &NatsOptions<'_>) -> Result<Context, NatsOpenError> {
    let servers = servers(asked.url)?;
    let options = options(asked, &servers).await?;
    let servers = servers.iter().map(without_secrets).collect::<Result<Vec<_>, _>>()?;
    let client = match timeout(CALL_MAX, options.connect(servers)).await {
        Ok(client) => client.map_err(|error| BackendError::not_done("open", error))?,
        Err(elapsed) => return Err(BackendError::not_done("open", elapsed).into()),
    };
    let server = client.server_info();
    if !client.is_server_compatible(2, 12, 0) {
        return Err(NatsOpenError::TooOld { server: server.host, version: server.version });
    }
    if server.max_payload < PAYLOAD_BYTES_MIN {
        return Err(NatsOpenError::Payload { server: server.host, bytes: server.max_payload });
    }
    let jetstream = ContextBuilder::new().timeout(CALL_MAX).build(client);
    match jetstream.query_account().await {
        Ok(_) => Ok(jetstream),
        Err(error) => match error.kind() {
            AccountErrorKind::JetStream(_) | AccountErrorKind::JetStreamUnavailable => {
                Err(NatsOpenError::NoJetStream { server: server.host })
            }
            AccountErrorKind::TimedOut | AccountErrorKind::Other => Err(BackendError::not_done("open", error).into()),
        },
    }
}

fn servers(url: &str) -> Result<Vec<ServerAddr>, NatsOpenError> {
    url.split(',').map(|address| address.trim().parse().map_err(|_| NatsOpenError::Url)).collect()
}

/// The client logs addresses as it gets them, so they must not hold passwords.
fn without_secrets(server: &ServerAddr) -> Result<ServerAddr, NatsOpenError> {
    let url = server.as_url_str();
    let bare = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    };
    bare.parse().map_err(|_| NatsOpenError::Url)
}

/// The client takes no users or tokens from addresses, and forgets `tls` when it learns of further servers.
async fn options(asked: &NatsOptions<'_>, servers: &[ServerAddr]) -> Result<ConnectOptions, NatsOpenError> {
    let mut options = ConnectOptions::new()
        .name("bank")
        .connection_timeout(CALL_MAX)
        .request_timeout(Some(CALL_MAX))
        .ping_interval(PING_EVERY)
        .reconnect_delay_callback(|_| RECONNECT_WAIT)
        .require_tls(servers.iter().any(|server| server.scheme() == TLS))
        .event_callback(|event| async move { note(&event) });
    let named = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    options = match named {
        Some((user, Some(password))) => options.user_and_password(decoded(user)?, decoded(password)?),
        Some((token, None)) => options.token(decoded(token)?),
        None => options,
    };
    if let Some(authorities) = asked.authorities {
        options = options.add_root_certificates(authorities.path().to_owned());
    }
    if let Some(file) = asked.credentials {
        options = options.credentials_file(file).await.map_err(|reason| NatsOpenError::Credentials { reason })?;
    }
    Ok(options)
}

fn decoded(part: &str) -> Result<String, NatsOpenError> {
    Ok(percent_decode_str(part).decode_utf8().map_err(|_| NatsOpenError::Url)?.into_owned())
}

fn note(event: &Event) {
    match event {
        Event::Connected => info!("connected to nats"),
        Event::Disconnected => warn!("connection to nats lost"),
        Event::SlowConsumer(_) => warn!("nats delivered faster than messages were read, reading dropped ones again"),
        // It does not answer a call that its user may not make: the call only times out.
        Event::ServerError(error) => warn!(%error, "nats reports an error"),
        Event::LameDuckMode | Event::Draining | Event::Closed | Event::ClientError(_) => {
            debug!(%event, "nats connection");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_handed_on_without_user_and_password() {
        let bare = |url: &str| without_secrets(&servers(url).unwrap()[0]).unwrap().as_url_str().to_owned();
        assert_eq!(bare("tls://ann:p%40ss@host:4223"), "tls://host:4223");
        assert_eq!(bare("nats://token@[::1]:4222"), "nats://[::1]:4222");
        assert_eq!(bare("nats://host:4222"), "nats://host:4222");
        assert_eq!(servers("nats://one:1, tls://two:2").unwrap().len(), 2);
    }
}
