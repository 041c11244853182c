//! Requests on the wire, told apart just far enough to be counted.

use crate::server::Server;

/// The first request in what a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// How many bytes it takes.
    pub(crate) length: usize,
    /// Its name; `None` if nothing waits for an answer, or if a driver sends it to stay connected.
    pub(crate) name: Option<String>,
}

/// The first request in these bytes, if all of it is there.
pub(crate) fn first(server: Server, sent: &[u8]) -> Option<Request> {
    match server {
        Server::Mongo => of_mongo(sent),
        Server::Nats => of_nats(sent),
        Server::Elastic => of_http(sent),
        Server::Redis => unreachable!("nobody counts what Redis is asked"),
    }
}

/// The number of a MongoDB message that holds a command; the others are greetings too.
const OP_MSG: u32 = 2013;

/// With these a driver opens and maintains connections.
const GREETINGS: [&str; 2] = ["hello", "isMaster"];

/// Where a command begins in its message: after the header, the flags, and the kind of its section.
const COMMAND: usize = 21;

/// A command's name is that of the first field of its document.
fn of_mongo(sent: &[u8]) -> Option<Request> {
    let number = |at: usize| Some(u32::from_le_bytes(*sent.get(at..)?.first_chunk()?));
    let length = usize::try_from(number(0)?).ok()?;
    let message = sent.get(..length)?;
    let field = message.get(COMMAND + 5..).filter(|_| number(12) == Some(OP_MSG));
    let name = field.and_then(|field| field.split(|byte| *byte == 0).next());
    let name = name.map(|name| String::from_utf8_lossy(name).into_owned());
    Some(Request { length, name: name.filter(|name| !GREETINGS.contains(&name.as_str())) })
}

/// A message with a reply address is waited for.
fn of_nats(sent: &[u8]) -> Option<Request> {
    let line = sent.windows(2).position(|end| end == b"\r\n")?;
    let words: Vec<&str> = std::str::from_utf8(&sent[..line]).expect("a line is text").split(' ').collect();
    let (is_answered, body) = match words.as_slice() {
        ["PUB", _, rest @ ..] => (rest.len() == 2, rest.last()),
        ["HPUB", _, rest @ ..] => (rest.len() == 3, rest.last()),
        _ => return Some(Request { length: line + 2, name: None }),
    };
    let body: usize = body.and_then(|length| length.parse().ok()).expect("a message has a length");
    let length = line + 2 + body + 2;
    let name = is_answered.then(|| words[1].to_owned());
    (length <= sent.len()).then_some(Request { length, name })
}

/// The name is the part of the path that begins with an underscore.
fn of_http(sent: &[u8]) -> Option<Request> {
    let head = sent.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&sent[..head]).expect("a head is text").to_ascii_lowercase();
    assert!(!text.contains("transfer-encoding"), "the length of a body is told: {text}");
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let path = text.split(' ').nth(1).expect("a request has a path");
    let path = path.split('?').next().expect("a part at least");
    let verb = path.split('/').find(|part| part.starts_with('_')).unwrap_or(path);
    (head + body <= sent.len()).then(|| Request { length: head + body, name: Some(verb.to_owned()) })
}

fn read(server: Server, mut sent: &[u8]) -> Vec<Option<String>> {
    let mut names = Vec::new();
    while let Some(Request { length, name }) = first(server, sent) {
        assert_eq!(first(server, &sent[..length - 1]), None, "a request was taken before all of it was there");
        names.push(name);
        sent = &sent[length..];
    }
    assert!(sent.is_empty(), "something was left: {sent:?}");
    names
}

#[test]
fn requests_are_told_apart() {
    let named = |names: &[&str]| names.iter().map(|name| Some((*name).to_owned())).collect::<Vec<_>>();
    let bulk = b"POST /balance-1-open/_bulk?filter_path=items HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
    let get = b"GET /_alias/balance HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(read(Server::Elastic, &[&bulk[..], get].concat()), named(&["_bulk", "_alias"]));

    let lines =
        b"PING\r\nPUB a 2\r\n\r\n\r\nHPUB b _INBOX.1 1 3\r\nabc\r\nPUB c _INBOX.2 0\r\n\r\nHPUB d 1 3\r\nabc\r\n";
    let told = [vec![None, None], named(&["b", "c"]), vec![None]].concat();
    assert_eq!(read(Server::Nats, lines), told);

    let message = |operation: u32, name: &[u8]| {
        let rest = [&[0; 5][..], &[9, 0, 0, 0], b"\x10", name, b"\0\x01\0\0\0\0"].concat();
        let length = u32::try_from(16 + rest.len()).unwrap();
        let head = [length, 1, 0, operation].map(u32::to_le_bytes).concat();
        [head, rest].concat()
    };
    let sent = [message(OP_MSG, b"insert"), message(2004, b"x"), message(OP_MSG, b"hello"), message(OP_MSG, b"find")];
    assert_eq!(read(Server::Mongo, &sent.concat()), [named(&["insert"]), vec![None, None], named(&["find"])].concat());
}
