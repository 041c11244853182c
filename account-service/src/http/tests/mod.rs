//! The HTTP contract, asked in process through the whole stack down to the embedded store.

mod bad_requests;
mod contract;
mod description;
mod golden;
mod statement;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use shared::http::{Limits, guarded};
use tower::ServiceExt;

use super::router;
use crate::testing::Bank;

struct Http {
    bank: Bank,
    router: Router,
}

#[derive(Debug, PartialEq)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn id(&self) -> String {
        self.body.as_str().expect("the body is an id").to_owned()
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.body["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(self.body[member].is_string(), "{member} is missing in {self:?}");
        }
    }
}

impl Http {
    fn new() -> Self {
        let bank = Bank::new();
        let router = router(bank.teller.clone(), bank.store.clone(), "EUR".parse().unwrap(), None);
        Self { router: guarded(router, "account-service", Limits::default()), bank }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}"));
        Reply { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, &[], body).await
    }

    async fn create(&self, body: &str) -> String {
        let created = self.post("/create", body).await;
        assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
        created.id()
    }
}
