//! A client that can do what a proper one cannot: break off, dribble, repeat headers.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::GENEROUS;

/// What came back until the server closed; status 0 when nothing came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn problem(&self) -> Value {
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem
    }

    pub(crate) fn code(&self) -> String {
        self.problem()["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn field(&self) -> String {
        self.problem()["errors"][0]["field"].as_str().unwrap().to_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.problem()["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}

/// Sends bytes and reads what comes until the server closes.
pub(crate) async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    read_answer(&mut stream).await
}

pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    tokio::time::timeout(GENEROUS, stream.read_to_end(&mut bytes)).await.expect("the server closes").ok();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    exchange(address, format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

pub(crate) async fn post_json(address: SocketAddr, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "POST /order HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    exchange(address, [head.as_bytes(), body].concat()).await
}
