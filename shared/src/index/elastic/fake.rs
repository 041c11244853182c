//! A server that answers as a test wants, where the real one cannot be made to.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::{ElasticIndex, ElasticOptions};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    /// What follows the question mark.
    pub(super) query: String,
    pub(super) body: String,
    /// What the `Authorization` header says.
    pub(super) authorization: String,
}

impl Asked {
    /// Whether it asks for documents.
    pub(super) fn is_look(&self) -> bool {
        self.path.ends_with("/_mget")
    }

    /// The ids that the lines of a bulk name.
    pub(super) fn ids(&self) -> Vec<String> {
        let lines = self.body.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ids = lines.filter_map(|line| Some(line.as_object()?.values().next()?.get("_id")?.as_str()?.to_owned()));
        ids.collect()
    }
}

type Answers = Box<dyn FnMut(&Asked) -> (u16, String) + Send>;

/// A server of one test; its port is free again when it is dropped.
pub(super) struct Fake {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Answers every request as `answers` says: a status and a body.
    #[expect(clippy::disallowed_methods, reason = "ends with its owner")]
    pub(super) async fn start(answers: impl FnMut(&Asked) -> (u16, String) + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script = Script { answers: Arc::new(Mutex::new(Box::new(answers))), asked: Arc::clone(&asked) };
        let router = Router::new().fallback(reply).with_state(script);
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        Self { url, asked, task: tokio::spawn(serving).abort_handle() }
    }

    pub(super) fn index(&self) -> ElasticIndex {
        self.index_as("")
    }

    /// The index for the user in this part of a URL: empty, or a user and a password before an `@`.
    pub(super) fn index_as(&self, user: &str) -> ElasticIndex {
        ElasticIndex::new(
            &self.url.replace("://", &format!("://{user}")),
            &"bank".parse().unwrap(),
            &ElasticOptions::default(),
        )
        .unwrap()
    }

    /// The requests that came, in order.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bulks among them.
    pub(super) fn bulks(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.path.ends_with("/_bulk")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn reply(State(script): State<Script>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let asked = Asked {
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
        authorization: headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
    };
    script.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let (status, body) = script.answers.lock().unwrap_or_else(PoisonError::into_inner)(&asked);
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], body).into_response()
}
