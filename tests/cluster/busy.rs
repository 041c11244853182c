//! An Elasticsearch that is often too busy: a proxy that refuses a share of the bulks.
//!
//! It refuses in the three ways of Elasticsearch: the bulk with 429, the bulk with 503, and each of its lines with 429.
//! A refused bulk never reaches the real server.
//! 429. What it refuses never reaches the real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::customers::PATIENCE;
use crate::server::Server;

/// How many ways there are to refuse a bulk.
const WAYS: usize = 3;

/// Dropping it ends the proxy.
pub(crate) struct BusyElastic {
    url: String,
    mood: Arc<Mood>,
    task: AbortHandle,
}

struct Mood {
    http: reqwest::Client,
    percent: AtomicUsize,
    asked: AtomicUsize,
    refused: AtomicUsize,
}

impl Mood {
    /// Spreads refusals evenly; returns the number of the refusal.
    fn refusal(&self) -> Option<usize> {
        let percent = self.percent.load(Ordering::Relaxed);
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let is_refused = (asked + 1) * percent / 100 > asked * percent / 100;
        is_refused.then(|| self.refused.fetch_add(1, Ordering::Relaxed))
    }
}

impl BusyElastic {
    #[expect(clippy::disallowed_methods, reason = "ends with its owner")]
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        // The client has a time limit of its own.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client without secrets");
        let (percent, asked, refused) = <(AtomicUsize, AtomicUsize, AtomicUsize)>::default();
        let mood = Arc::new(Mood { http, percent, asked, refused });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&mood));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") }).abort_handle();
        Self { url, mood, task }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// How many bulks are refused from now on, of 100.
    pub(crate) fn refuse(&self, percent: usize) {
        self.mood.percent.store(percent, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self) -> usize {
        self.mood.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> usize {
        self.mood.refused.load(Ordering::Relaxed)
    }
}

impl Drop for BusyElastic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(mood): State<Arc<Mood>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let refusal = if uri.path().ends_with("/_bulk") { mood.refusal() } else { None };
    match refusal.map(|number| number % WAYS) {
        Some(0) => refused_lines(&body),
        Some(1) => busy(StatusCode::TOO_MANY_REQUESTS),
        Some(_) => busy(StatusCode::SERVICE_UNAVAILABLE),
        None => pass_on(&mood.http, method, &uri, &headers, body).await,
    }
}

fn busy(status: StatusCode) -> Response {
    shown(status, &json!({ "error": rejection(), "status": status.as_u16() }))
}

/// Every line of a bulk, refused by itself.
fn refused_lines(body: &[u8]) -> Response {
    let lines = body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let actions = lines.filter_map(|line| {
        let (action, about) = line.as_object()?.iter().next()?;
        let is_action = ["index", "create", "delete"].contains(&action.as_str()) && about["_id"].is_string();
        is_action.then(|| json!({ action: { "_id": about["_id"], "status": 429, "error": rejection() } }))
    });
    shown(StatusCode::OK, &json!({ "took": 0, "errors": true, "items": actions.collect::<Vec<_>>() }))
}

fn rejection() -> Value {
    json!({ "type": "es_rejected_execution_exception", "reason": "rejected execution: a test says so" })
}

/// The driver checks the product's name in every answer.
fn shown(status: StatusCode, answer: &Value) -> Response {
    let json = HeaderValue::from_static("application/json");
    let product = HeaderValue::from_static("Elasticsearch");
    let headers = [(header::CONTENT_TYPE.as_str(), json), ("x-elastic-product", product)];
    (status, headers, answer.to_string()).into_response()
}

async fn pass_on(http: &reqwest::Client, method: Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = http.request(method, format!("{}{path}", Server::Elastic.url())).body(body);
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        request = headers.get(&name).into_iter().fold(request, |request, value| request.header(&name, value));
    }
    let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let Ok(content) = answer.bytes().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut passed = Response::new(Body::from(content));
    *passed.status_mut() = status;
    for name in ["content-type", "x-elastic-product"] {
        headers.get(name).into_iter().for_each(|value| {
            passed.headers_mut().insert(name, value.clone());
        });
    }
    passed
}
