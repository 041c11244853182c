//! HTTP alone: a handler that does nothing, under the load of the other scenarios.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures::future::try_join_all;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::super::connection::{Call, Connection};
use super::super::latency::Latencies;
use super::super::options::Base;
use super::super::report::{Report, per_second};

/// The default of the scenarios.
const CONNECTIONS: usize = 128;

/// A deposit, and the bank's answer to one.
const BODY: &str = r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","money":42}"#;
const ANSWER: &str = r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","balance":1000000042,"version":2}"#;

/// Measures how many requests a service can answer that reads them and does nothing else.
pub(super) async fn measure(duration: Duration, report: &mut Report) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let base = Base::local(listener.local_addr()?);
    // With `TCP_NODELAY`, like the services.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new().route("/deposit", post(async |_: Bytes| ANSWER));
    let mut server = JoinSet::new();
    server.spawn(axum::serve(listener, router).into_future());
    let load = spawn_blocking(move || {
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(load(base, duration))
    });
    let (answered, latencies, took) = load.await.context("the load failed")??;
    report.figures.insert("http_answers_per_second", per_second(answered, took));
    report.add_latencies("http answer", &latencies);
    Ok(())
}

/// Sends one request after the other, on one thread, like all load (law BE5).
async fn load(base: Base, duration: Duration) -> anyhow::Result<(u64, Latencies, Duration)> {
    let (answered, latencies) = (Cell::new(0), RefCell::new(Latencies::new()));
    let began = Instant::now();
    let customers = (0..CONNECTIONS).map(|_| async {
        let mut connection = Connection::new(&base);
        while began.elapsed() < duration {
            let asked = Instant::now();
            let answer = connection.send(&Call::post("/deposit", BODY.to_owned())).await?;
            ensure!(answer.status.is_success(), "a handler that does nothing answered {}", answer.status);
            latencies.borrow_mut().record(asked.elapsed());
            answered.set(answered.get() + 1);
        }
        anyhow::Ok(())
    });
    try_join_all(customers).await?;
    Ok((answered.get(), latencies.into_inner(), began.elapsed()))
}
