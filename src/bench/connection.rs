//! One persistent connection to a service: a request at a time, over HTTP/1.1.
//!
//! The load uses part of the machine that it measures, so this client does as little as possible: a request is one
//! write, an answer is parsed in the buffer it was read into, and neither passes through another task.

use std::fmt::Arguments;
use std::io;
use std::io::Write as _;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};
use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::options::Base;

/// How long an answer may take before the request counts as unknown. Longer than the longest wait a request asks for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How many headers an answer may have; the bank sends fewer than ten, a proxy adds some.
const HEADERS_MAX: usize = 64;

/// How large an answer may be, with its headers. A page of the bank is far smaller.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How much is read from the kernel at once, more than most answers have.
const READ_BYTES: usize = 8 << 10;

/// A request to send.
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

    /// Writes the request as it is sent to this host.
    fn write(&self, host: &str, request: &mut Vec<u8>) {
        let Self { method, path, body, key } = self;
        request.clear();
        let mut line = |line: Arguments<'_>| request.write_fmt(line).expect("memory takes every byte");
        line(format_args!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n"));
        if let Some(key) = key {
            line(format_args!("idempotency-key: {key}\r\n"));
        }
        if !body.is_empty() {
            line(format_args!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
    }
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The request was not sent.
    #[error("cannot reach {authority}: {reason}; start the bank, or set --url and --balance-url")]
    Unreachable { authority: String, reason: String },
    /// The request was sent, and its outcome is unknown.
    #[error("no answer from {authority}: {reason}")]
    Unknown { authority: String, reason: String },
}

/// A connection that is opened with the first request, and again after a failure.
pub(super) struct Connection {
    base: Base,
    open: Option<TcpStream>,
    request: Vec<u8>,
    /// What was read; empty between two requests.
    read: BytesMut,
}

impl Connection {
    pub(super) fn new(base: &Base) -> Self {
        Self { base: base.clone(), open: None, request: Vec::new(), read: BytesMut::new() }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn send(&mut self, call: &Call) -> Result<Answer, NoAnswer> {
        let mut stream = match self.open.take() {
            Some(stream) if is_idle(&stream) => stream,
            _ => self.connect().await?,
        };
        call.write(self.base.authority(), &mut self.request);
        self.read.clear();
        let exchange = async {
            stream.write_all(&self.request).await?;
            answer_of(&mut stream, &mut self.read).await
        };
        let unknown = |reason: String| NoAnswer::Unknown { authority: self.base.authority().to_owned(), reason };
        match timeout(ANSWER_TIME_MAX, exchange).await {
            Ok(Ok((answer, is_kept))) => {
                self.open = is_kept.then_some(stream);
                Ok(answer)
            }
            Ok(Err(failure)) => Err(unknown(failure.to_string())),
            Err(_) => Err(unknown(format!("timed out after {} s", ANSWER_TIME_MAX.as_secs()))),
        }
    }

    async fn connect(&self) -> Result<TcpStream, NoAnswer> {
        let unreachable =
            |reason: String| NoAnswer::Unreachable { authority: self.base.authority().to_owned(), reason };
        let stream = timeout(CONNECT_TIME_MAX, TcpStream::connect(self.base.address())).await;
        let stream = stream.map_err(|_| unreachable("the connection timed out".to_owned()))?;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        stream.map_err(|failure| unreachable(failure.to_string()))
    }
}

/// Whether a kept connection is still open, as far as that shows without a request: nothing has arrived on it, not even
/// its end.
fn is_idle(stream: &TcpStream) -> bool {
    let nothing = stream.try_read(&mut [0]);
    matches!(nothing, Err(failure) if failure.kind() == io::ErrorKind::WouldBlock)
}

/// Reads one answer, and returns whether another may follow on the connection.
async fn answer_of(stream: &mut TcpStream, read: &mut BytesMut) -> io::Result<(Answer, bool)> {
    loop {
        read.reserve(READ_BYTES);
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(answered) = parse(read)? {
            return Ok(answered);
        }
        if read.len() > ANSWER_BYTES_MAX {
            return Err(malformed("answer too long"));
        }
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What precedes an answer's body.
struct Head {
    status: StatusCode,
    bytes: usize,
    body: Body,
    is_kept: bool,
}

/// How long a body is.
enum Body {
    Bytes(usize),
    Chunked,
}

/// Takes an answer out of the buffer, once all of it is there.
fn parse(read: &mut BytesMut) -> io::Result<Option<(Answer, bool)>> {
    let Some(head) = head_of(read)? else { return Ok(None) };
    let body = match head.body {
        Body::Bytes(bytes) if read.len() < head.bytes + bytes => return Ok(None),
        Body::Bytes(bytes) => {
            read.advance(head.bytes);
            read.split_to(bytes).freeze()
        }
        Body::Chunked => match chunks_of(&read[head.bytes..])? {
            Some(body) => body,
            None => return Ok(None),
        },
    };
    Ok(Some((Answer { status: head.status, body }, head.is_kept)))
}

fn head_of(read: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let parsed = response.parse(read).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let Status::Complete(bytes) = parsed else { return Ok(None) };
    let status =
        response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| malformed("invalid status"))?;
    let mut head = Head { status, bytes, body: Body::Bytes(0), is_kept: true };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = str::from_utf8(header.value).ok().and_then(|length| length.parse().ok());
            head.body = Body::Bytes(length.ok_or_else(|| malformed("invalid content-length"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = Body::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.is_kept = !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(head))
}

/// A chunked body, once its last chunk is there.
fn chunks_of(mut rest: &[u8]) -> io::Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    loop {
        let Status::Complete((line, bytes)) = parse_chunk_size(rest).map_err(|_| malformed("invalid chunk"))? else {
            return Ok(None);
        };
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= ANSWER_BYTES_MAX);
        let bytes = bytes.ok_or_else(|| malformed("chunk too long"))?;
        // Each chunk, also the empty one at the end, is followed by an empty line.
        let Some(chunk) = rest.get(line..line + bytes).filter(|_| rest.len() >= line + bytes + 2) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = &rest[line + bytes + 2..];
        if bytes == 0 {
            return Ok(Some(body.freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(answer: &str) -> (Answer, bool) {
        for end in 0..answer.len() {
            assert!(parse(&mut BytesMut::from(&answer[..end])).unwrap().is_none(), "{end} bytes are not all");
        }
        parse(&mut BytesMut::from(answer)).unwrap().unwrap()
    }

    #[test]
    fn an_answer_is_taken_when_all_of_it_is_there() {
        let of = |status: u16, body: &'static str| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let length = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\netag: \"7\"\r\n\r\nhello";
        assert_eq!(whole(length), (of(201, "hello"), true));
        let none = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(whole(none), (of(503, ""), false));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        assert_eq!(whole(chunked), (of(200, "hello"), true));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for strange in ["hello, who is there?\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"] {
            assert!(parse(&mut BytesMut::from(strange)).is_err(), "{strange}");
        }
    }

    #[test]
    fn a_request_has_a_length_if_it_has_a_body() {
        let written = |call: Call| {
            let mut request = b"the one before".to_vec();
            call.write("host:1", &mut request);
            String::from_utf8(request).unwrap()
        };
        let mut call = Call::post("/deposit", "{}".to_owned());
        call.key = Some("k".to_owned());
        let head = "POST /deposit HTTP/1.1\r\nhost: host:1\r\nidempotency-key: k\r\n";
        let expected = format!("{head}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}");
        assert_eq!(written(call), expected);
        assert_eq!(written(Call::get("/x".to_owned())), "GET /x HTTP/1.1\r\nhost: host:1\r\n\r\n");
    }
}
