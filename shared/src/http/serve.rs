//! Serves a router on a listening socket until shutdown.
//!
//! The accept loop is our own: hyper cuts off a header that never ends only if it is given a timer, and here we also
//! limit the number of connections, the time that a client may read nothing of its answer, and the time that a
//! connection may linger at shutdown.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::{Gauge, gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use super::stall::Unstalled;
use super::{Limits, guarded};
use crate::telemetry::metric::HTTP_CONNECTIONS;

/// The largest header of a request, in bytes; also the read buffer of a connection.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How long to wait when there is no file descriptor for a new connection: one has to be closed first.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Answers requests until `shutdown` is cancelled, then until those in progress are answered or [`Limits::drain`] has
/// passed. It guards the router itself.
///
/// # Errors
/// If the listener's address cannot be determined. There are none while it serves: a failed accept is logged and
/// retried.
pub async fn serve(
    service: &'static str,
    router: Router,
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let server = Server { service, router: guarded(router, service, limits), limits };
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = Connections::new(service);
    info!(service, address = %listener.local_addr()?, "listening");
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.tasks.join_next_with_id() => {
                connections.ended(ended);
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => connections.begin(server.clone(), stream, place),
            Err(failure) => {
                warn!(service, cause = %failure, "cannot accept a connection, trying again");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    drop(listener);
    connections.drain(limits.drain).await;
    Ok(())
}

/// Accepts a connection once there is a place for it; without one, clients wait in the kernel's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // An answer is one write: nothing is gained by waiting for more.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// The open connections of a service.
struct Connections {
    service: &'static str,
    tasks: JoinSet<()>,
    /// The senders whose drop tells each connection to begin no further request. The shutdown token does not serve:
    /// each check of it takes a lock that all connections share, and a connection checks at every step of every
    /// request.
    open_until: HashMap<task::Id, oneshot::Sender<Infallible>>,
    open: Gauge,
}

impl Connections {
    fn new(service: &'static str) -> Self {
        let open = gauge!(HTTP_CONNECTIONS.name, "service" => service);
        Self { service, tasks: JoinSet::new(), open_until: HashMap::new(), open }
    }

    fn begin(&mut self, server: Server, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (until, closing) = oneshot::channel();
        let task = self.tasks.spawn(server.connection(stream, place, closing));
        self.open_until.insert(task.id(), until);
        self.open.increment(1.0);
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(failure) => failure.id(),
        };
        self.open_until.remove(&id);
        report(self.service, ended.map(|(_, ())| ()));
        self.open.decrement(1.0);
    }

    /// Lets them answer the requests in progress, for as long as `bound`.
    async fn drain(self, bound: Duration) {
        let Self { service, mut tasks, open_until, .. } = self;
        drop(open_until);
        let begun = tasks.len();
        let all_ended = async {
            while let Some(ended) = tasks.join_next().await {
                report(service, ended);
            }
        };
        if tokio::time::timeout(bound, all_ended).await.is_err() {
            warn!(service, connections = tasks.len(), "requests not finished in time, closing their connections");
            tasks.shutdown().await;
        }
        info!(service, connections = begun, "drained");
    }
}

fn report(service: &'static str, ended: Result<(), JoinError>) {
    if let Err(failure) = ended {
        warn!(service, cause = %failure, "connection task failed");
    }
}

#[derive(Clone)]
struct Server {
    service: &'static str,
    router: Router,
    limits: Limits,
}

impl Server {
    async fn connection(self, stream: TcpStream, _place: OwnedSemaphorePermit, closing: oneshot::Receiver<Infallible>) {
        let handler = self.router.map_request(|request: hyper::Request<_>| request.map(Body::new));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.header)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(
                    TokioIo::new(Unstalled::new(stream, self.limits.stall)),
                    TowerToHyperService::new(handler)
                )
        );
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = closing => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(failure) = ended {
            debug!(service = self.service, cause = %failure, "connection closed early");
        }
    }
}
