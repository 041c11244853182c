//! One kept connection to a service: a request at a time, over HTTP/1.1.
//!
//! It is driven by whoever waits for the answer, so a request costs no hop to another task.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::options::Base;

/// How long an answer may take before the request counts as unknown. Longer than the longest wait a request asks for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Bytes,
    /// The idempotency key, if one is sent.
    pub(super) key: Option<String>,
}

impl Call {
    pub(super) const fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Bytes::new(), key: None }
    }

    pub(super) fn post(path: &str, body: String) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body: body.into(), key: None }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The request was not sent.
    #[error("{authority} cannot be reached: {reason}")]
    Unreachable { authority: String, reason: String },
    /// The request was sent, and nobody knows what became of it.
    #[error("{authority} gave no answer: {reason}")]
    Unknown { authority: String, reason: String },
}

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

struct Open {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
}

/// A connection that comes about with the first request, and anew after a failure.
pub(super) struct Connection {
    base: Base,
    host: HeaderValue,
    open: Option<Open>,
}

impl Connection {
    pub(super) fn new(base: &Base) -> Self {
        let host = HeaderValue::from_str(base.authority()).expect("an authority is visible ASCII");
        Self { base: base.clone(), host, open: None }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn send(&mut self, call: Call) -> Result<Answer, NoAnswer> {
        let mut open = match self.open.take() {
            Some(open) if !open.sender.is_closed() => open,
            _ => self.connect().await?,
        };
        let request = self.request(call);
        let unknown = |reason: String| NoAnswer::Unknown { authority: self.base.authority().to_owned(), reason };
        let exchange = async {
            let answer = async {
                let answer = open.sender.send_request(request).await?;
                let status = answer.status();
                Ok(Answer { status, body: answer.into_body().collect().await?.to_bytes() })
            };
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|failure: hyper::Error| failure.to_string()),
                ended = &mut open.driver => Err(ended.err().map_or_else(|| "closed".to_owned(), |failure| failure.to_string())),
            }
        };
        let answer = timeout(ANSWER_TIME_MAX, exchange).await;
        let answer = answer.map_err(|_| unknown(format!("none within {} s", ANSWER_TIME_MAX.as_secs())))?;
        let answer = answer.map_err(unknown)?;
        self.open = Some(open);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Open, NoAnswer> {
        let unreachable =
            |reason: String| NoAnswer::Unreachable { authority: self.base.authority().to_owned(), reason };
        let stream = timeout(CONNECT_TIME_MAX, TcpStream::connect(self.base.address())).await;
        let stream = stream.map_err(|_| unreachable("no connection in time".to_owned()))?;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|failure| unreachable(failure.to_string()))?;
        let hands = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = hands.map_err(|failure| unreachable(failure.to_string()))?;
        Ok(Open { sender, driver: Box::pin(driver) })
    }

    fn request(&self, call: Call) -> Request<Full<Bytes>> {
        let Call { method, path, body, key } = call;
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.host.clone());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Full::new(body)).expect("paths and keys are made here, of visible ASCII")
    }
}
