//! The connection to Redis, which is replaced when the server no longer answers on it.
//!
//! When a connection ends, the driver connects again by itself. In two cases it does not, and every call would fail:
//!
//! - A half-open connection does not end: the server's host has vanished, or is frozen and still acknowledges what it
//!   is sent, while a healthy server may already have its name. For the driver a call without an answer was only slow,
//!   and it keeps the connection until the kernel gives it up, a quarter of an hour later or never.
//! - The server refuses the password, or the number of the database, when the driver connects again: it has not read
//!   its users yet, or they are just being replaced. The driver tries again after failures of the network alone. It
//!   keeps any other as the answer to every later call, for ever, and does not ask the server.
//!
//! Therefore:
//!
//! - After [`UNANSWERED_MAX`] calls in a row that the server did not answer in time, or that were refused, the next
//!   call opens another connection. Clones share it. One caller opens it; the others wait until that one has succeeded
//!   or failed.
//! - Another connection takes over only once the server has answered on it, which the driver waits for when it
//!   connects. Until then the old one stays, for the server may be slow, or refuse this one too; the next call tries to
//!   replace it again, unless it was answered in between.
//! - A call ends within [`CALL_MAX`], also if another connection is opened first: that takes at most [`ANSWER_MAX`].
//!
//! The kernel is asked to notice a vanished host within seconds as well. That also ends a connection that nobody uses.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisResult, TlsCertificates};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::config::TlsAuthorities;
use crate::error::BackendError;

/// How long a call may take. Less than the time between two renewals of the shortest sensible lease, and far more than
/// a healthy server needs.
const CALL_MAX: Duration = Duration::from_millis(1_500);

/// How long connecting may take, and how long a reply: two tries fit into a call, or another connection and one try.
const ANSWER_MAX: Duration = Duration::from_millis(700);

/// How often connecting is retried before a call fails; the caller decides what happens then.
const CONNECTS_MAX: usize = 1;

/// How many calls in a row may stay without an answer before another connection is opened. One may have met a server
/// that was busy for a moment; each further one is a renewal that a lease may not survive.
const UNANSWERED_MAX: u32 = 2;

/// How long a connection is idle before the kernel asks for a sign of life, and how long until it asks again.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// How often the kernel asks in vain before it ends the connection. On Linux [`UNACKNOWLEDGED_MAX`] decides instead.
const PROBES_MAX: u32 = 3;

/// How long the server's host may leave bytes and probes unacknowledged before the kernel ends the connection. A few
/// times as long as a call, so that packets lost now and then end nothing.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// A connection to Redis. Clones share it, and whatever replaces it.
#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

struct Shared {
    client: Client,
    /// The line in use. Locked only while the pointer is copied or replaced.
    line: Mutex<Arc<Line>>,
    /// Held by the caller who opens another line, for [`ANSWER_MAX`] at most.
    opening: tokio::sync::Mutex<()>,
}

impl Connection {
    /// Connects to the server at this URL. For `rediss://`, `authorities` replace those of the system.
    pub(super) async fn open(url: &str, authorities: Option<&TlsAuthorities>) -> Result<Self, BackendError> {
        let client = client(url, authorities).map_err(|error| BackendError::broken("open", error))?;
        let manager = timeout(CALL_MAX, connect(&client)).await;
        let manager = manager
            .map_err(|elapsed| BackendError::not_done("open", elapsed))?
            .map_err(|error| BackendError::not_done("open", error))?;
        Ok(Self::over(client, manager))
    }

    fn over(client: Client, manager: ConnectionManager) -> Self {
        let line = Mutex::new(Arc::new(Line::over(manager)));
        Self(Arc::new(Shared { client, line, opening: tokio::sync::Mutex::new(()) }))
    }

    /// Asks the server a question, which ends within [`CALL_MAX`].
    pub(super) async fn ask<T, F>(
        &self,
        question: impl FnOnce(ConnectionManager) -> F,
    ) -> Result<RedisResult<T>, Elapsed>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + CALL_MAX;
        let line = self.line().await;
        let answer = timeout_at(deadline, question(line.manager.clone())).await;
        line.note(&answer);
        answer
    }

    /// The line to ask on: another one if the present one is silent and another can be had soon.
    async fn line(&self) -> Arc<Line> {
        let line = self.present();
        if !line.is_silent() {
            return line;
        }
        if timeout(ANSWER_MAX, self.replace()).await.is_err() {
            debug!("redis does not answer on another connection either");
        }
        self.present()
    }

    /// Opens another line in place of a silent one, or waits for the caller who does so already.
    async fn replace(&self) {
        let Ok(_opening) = self.0.opening.try_lock() else {
            drop(self.0.opening.lock().await);
            return;
        };
        // Somebody may have replaced it just before this caller got here.
        if !self.present().is_silent() {
            return;
        }
        match connect(&self.0.client).await {
            Ok(manager) => {
                *self.lock() = Arc::new(Line::over(manager));
                warn!("redis was silent on its connection, another one takes over");
            }
            Err(error) => debug!(%error, "redis is silent and cannot be connected to again"),
        }
    }

    fn present(&self) -> Arc<Line> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Line>> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of the driver, and how it was answered lately. A call notes its outcome on the line it was asked on,
/// so one that ends late says nothing about the line that has taken over.
struct Line {
    manager: ConnectionManager,
    /// How many calls in a row the server did not answer in time, or was not sent.
    unanswered: AtomicU32,
}

impl Line {
    fn over(manager: ConnectionManager) -> Self {
        Self { manager, unanswered: AtomicU32::new(0) }
    }

    fn is_silent(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= UNANSWERED_MAX
    }

    /// An answer ends the row, and so does an error of the connection, after which the driver connects again by itself.
    /// A refusal may be one that the driver has kept. If it is not, another connection costs little.
    fn note<T>(&self, answer: &Result<RedisResult<T>, Elapsed>) {
        let was_silent = match answer {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => error.is_timeout() || !error.is_io_error(),
            Err(_) => true,
        };
        if was_silent {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        } else {
            self.unanswered.store(0, Ordering::Relaxed);
        }
    }
}

async fn connect(client: &Client) -> RedisResult<ConnectionManager> {
    ConnectionManager::new_with_config(client.clone(), limits()).await
}

fn limits() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(ANSWER_MAX))
        .set_response_timeout(Some(ANSWER_MAX))
        .set_number_of_retries(CONNECTS_MAX)
}

fn client(url: &str, authorities: Option<&TlsAuthorities>) -> RedisResult<Client> {
    let info = url.into_connection_info()?.set_tcp_settings(signs_of_life());
    match (authorities, info.addr()) {
        (Some(authorities), ConnectionAddr::TcpTls { .. }) => {
            let root_cert = Some(authorities.pem().as_bytes().to_vec());
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        }
        _ => Client::open(info),
    }
}

/// What the kernel does about a host that has vanished.
fn signs_of_life() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY).with_retries(PROBES_MAX);
    let settings = TcpSettings::default();
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MAX);
    settings.set_keepalive(probes)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;

    use redis::{ErrorKind, RedisError};

    use super::*;

    /// A connection that nothing is sent on, to a port where nobody listens.
    fn connection() -> Connection {
        let client = client("redis://127.0.0.1:1", None).unwrap();
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), limits()).unwrap();
        Connection::over(client, manager)
    }

    fn failed(kind: io::ErrorKind) -> RedisError {
        io::Error::from(kind).into()
    }

    fn note_late(line: &Line) {
        line.note::<()>(&Ok(Err(failed(io::ErrorKind::TimedOut))));
    }

    #[tokio::test]
    async fn a_line_is_silent_after_calls_in_a_row_without_an_answer() {
        let line = connection().present();
        for end in [Ok(Ok(())), Ok(Err(failed(io::ErrorKind::BrokenPipe)))] {
            for _ in 1..UNANSWERED_MAX {
                note_late(&line);
            }
            line.note(&end);
            assert!(!line.is_silent());
        }
        note_late(&line);
        for _ in 1..UNANSWERED_MAX {
            assert!(!line.is_silent());
            line.note(&timeout(Duration::ZERO, pending::<RedisResult<()>>()).await);
        }
        assert!(line.is_silent());
    }

    #[tokio::test]
    async fn a_line_is_silent_after_as_many_calls_for_which_the_password_was_refused() {
        let line = connection().present();
        for _ in 0..UNANSWERED_MAX {
            assert!(!line.is_silent());
            line.note::<()>(&Ok(Err((ErrorKind::AuthenticationFailed, "refused").into())));
        }
        assert!(line.is_silent());
    }

    #[tokio::test]
    async fn a_silent_line_stays_while_no_other_can_be_opened() {
        let connection = connection();
        let before = connection.present();
        (0..UNANSWERED_MAX).for_each(|_| note_late(&before));
        assert!(Arc::ptr_eq(&connection.line().await, &before));
        assert!(before.is_silent(), "the next call tries again");
    }
}
