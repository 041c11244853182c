//! A server with a handler for each way to misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use serde::Deserialize;
use shared::http::{JsonBody, Limits, NoBody, PathId, QueryParams, TimeAllowance, serve};
use shared::id::AccountId;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long a test waits for something that must come; far above every limit in [`SHORT`].
pub(crate) const GENEROUS: Duration = Duration::from_secs(30);

/// Limits short enough to be reached in a test.
pub(crate) const SHORT: Limits = Limits {
    header: Duration::from_millis(300),
    body: Duration::from_millis(300),
    request: Duration::from_millis(600),
    stall: Duration::from_millis(300),
    body_bytes: 64 * 1024,
    connections: 16,
    drain: Duration::from_secs(20),
};

/// Limits that no test reaches.
pub(crate) const PATIENT: Limits =
    Limits { header: GENEROUS, body: GENEROUS, request: GENEROUS, stall: GENEROUS, drain: GENEROUS, ..SHORT };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    money: u64,
    #[serde(default)]
    lines: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    owner: Option<String>,
    limit: Option<u16>,
}

pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    /// Notified when `/held` is called.
    pub(crate) begun: Arc<Notify>,
    /// Lets `/held` answer.
    pub(crate) release: Arc<Notify>,
}

/// Runs `test` beside a server, which must end without a failure after it.
pub(crate) async fn with_server<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(Fixture) -> F) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fixture = Fixture {
        address: listener.local_addr().unwrap(),
        shutdown: CancellationToken::new(),
        begun: Arc::new(Notify::new()),
        release: Arc::new(Notify::new()),
    };
    let router = router(Arc::clone(&fixture.begun), Arc::clone(&fixture.release));
    let shutdown = fixture.shutdown.clone();
    let server = serve("test", router, listener, limits, shutdown.clone());
    let test = async {
        test(fixture).await;
        shutdown.cancel();
    };
    let (ended, ()) = tokio::time::timeout(GENEROUS * 2, async { tokio::join!(server, test) }).await.unwrap();
    ended.unwrap();
}

fn router(begun: Arc<Notify>, release: Arc<Notify>) -> Router {
    let held = move || async move {
        begun.notify_one();
        release.notified().await;
        "finished"
    };
    Router::new()
        .route("/order", post(order))
        .route("/bare", post(async |_: NoBody| ()))
        .route("/accounts/{id}", get(async |PathId(id): PathId<AccountId>| id.to_string()))
        .route("/list", get(list))
        .route("/panic", get(fail).post(async || ()))
        .route("/stuck", get(std::future::pending::<()>).post(std::future::pending::<()>))
        .route("/stuck-order", get(hang_after_taking_effect))
        .route("/patient", get(wait_on_purpose))
        .route("/held", get(held))
        .route("/large", get(async || "x".repeat(64 * 1024 * 1024)))
}

async fn order(JsonBody(order): JsonBody<Order>) -> String {
    format!("{} {}", order.money, order.lines.len())
}

async fn list(QueryParams(filter): QueryParams<Filter>) -> String {
    format!("{:?} {:?}", filter.owner, filter.limit)
}

async fn fail() {
    panic!("the handler's own fault");
}

async fn hang_after_taking_effect(time: TimeAllowance) {
    time.takes_effect();
    std::future::pending::<()>().await;
}

async fn wait_on_purpose(time: TimeAllowance) -> &'static str {
    time.extend(GENEROUS);
    tokio::time::sleep(SHORT.request * 2).await;
    "waited"
}
