//! Requests that two parsers may read differently. If a proxy reads one request where this server reads two, the second
//! one was never checked by the proxy, and its answer goes to another client.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{GENEROUS, PATIENT, with_server};

/// A request that is inside the body of another one, or behind it, depending on who reads.
const HIDDEN: &str = "GET /list?limit=7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// What the hidden request is answered with.
const HIDDEN_ANSWER: &str = "Some(7)";

/// Everything the server says until it closes the connection.
async fn said(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A server that closes before it has read everything may reset the connection.
    timeout(GENEROUS, stream.read_to_end(&mut bytes)).await.expect("the server closes").ok();
    String::from_utf8(bytes).unwrap()
}

fn post(version: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /order HTTP/{version}\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n\r\n{body}{HIDDEN}"
    )
}

/// Goal: what follows a request of certain length on its connection is another request.
#[tokio::test]
async fn a_request_behind_another_one_is_answered() {
    with_server(PATIENT, async |server| {
        let chunked = "b\r\n{\"money\":5}\r\n0\r\n\r\n";
        for (headers, body) in [("content-length: 11", "{\"money\":5}"), ("transfer-encoding: chunked", chunked)] {
            let said = said(server.address, &post("1.1", headers, body)).await;
            assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
            assert!(said.contains(HIDDEN_ANSWER), "{said}");
        }
    })
    .await;
}

/// Goal: a request whose length is told twice, or in a way that parsers read differently, is refused, and nothing
/// behind it is taken for a request.
#[tokio::test]
async fn a_request_of_doubtful_length_is_refused_with_all_that_follows() {
    with_server(PATIENT, async |server| {
        for headers in [
            "content-length: 11\r\ncontent-length: 0",
            "content-length: 0\r\ncontent-length: 11",
            "content-length: 11, 0",
            "content-length: +11",
            "content-length: -1",
            "content-length: 0x0b",
            "content-length: 1 1",
            "content-length:",
            "content-length : 11",
            "content-length: 11\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 11",
            "content-length: 11\r\ntransfer-encoding: xchunked",
            "content-length: 11\r\ntransfer-encoding: identity",
            "content-length: 11\r\ntransfer-encoding: chunked, identity",
            "transfer-encoding : chunked",
            "transfer-encoding:\r\n chunked",
            "x: y\r\n content-length: 11",
            "content-length: 11\0",
        ] {
            for body in ["{\"money\":5}", "0\r\n\r\n"] {
                let said = said(server.address, &post("1.1", headers, body)).await;
                assert!(said.starts_with("HTTP/1.1 4"), "{headers:?}: {said}");
                assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {said}");
                assert!(!said.contains(HIDDEN_ANSWER), "{headers:?}: {said}");
            }
        }
        let said = said(server.address, &post("1.0", "transfer-encoding: chunked", "0\r\n\r\n")).await;
        assert!(said.contains(" 400 ") && !said.contains(HIDDEN_ANSWER), "HTTP/1.0 has no chunks: {said}");
    })
    .await;
}

/// Goal: a chunk whose size is not a plain hexadecimal number ends the request, and nothing behind it is taken for
/// another one.
#[tokio::test]
async fn a_chunk_of_doubtful_size_ends_the_connection() {
    with_server(PATIENT, async |server| {
        for size in ["0x0b", "+b", "-b", "b b", "1g", "", "fffffffffffffffff"] {
            let body = format!("{size}\r\n{{\"money\":5}}\r\n0\r\n\r\n");
            let said = said(server.address, &post("1.1", "transfer-encoding: chunked", &body)).await;
            assert!(!said.contains("HTTP/1.1 200"), "{size:?}: {said}");
            assert!(!said.contains(HIDDEN_ANSWER), "{size:?}: {said}");
        }
    })
    .await;
}

/// Goal: what is refused before it is a request has the status that the descriptions of the services name, and no body.
#[tokio::test]
async fn what_is_no_request_is_refused_without_a_body() {
    /// As much as the server reads of a header: what it leaves unread may cost the client the answer.
    const HEADER_BYTES_MAX: usize = 16 * 1024;
    with_server(PATIENT, async |server| {
        let long = |start: &str| format!("{start}{}", "x".repeat(HEADER_BYTES_MAX - start.len()));
        for (request, status) in [
            (long("GET /"), 431),
            (long("GET / HTTP/1.1\r\nhost: x\r\ny: "), 431),
            ("this is not HTTP\r\n\r\n".to_owned(), 400),
        ] {
            let said = said(server.address, &request).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
            assert!(said.ends_with("\r\n\r\n"), "{said}");
        }
    })
    .await;
}
