//! A TCP proxy between a backend and its server that fails on demand, for tests of failures that only a network causes.
//!
//! It listens on a port of loopback and passes bytes both ways, unless it is asked for trouble:
//!
//! | trouble | what a client meets |
//! |---|---|
//! | [`Proxy::cut`] | its connections end, new ones work |
//! | [`Proxy::strand`] | its connections are half-open for ever, new ones work: another host has the server's name |
//! | [`Trouble::Refuse`] | its connections end, new ones end at once: the server is down |
//! | [`Trouble::Silence`] | its bytes arrive nowhere and nothing comes back: a half-open connection |
//! | [`Trouble::LoseReplies`] | its requests take effect, their answers never arrive |
//! | [`Trouble::Delay`] | each piece of an answer arrives this much later |
//!
//! A byte stream with a gap is useless. So connections that have lost bytes end with the trouble, and a client that
//! goes on reconnects. Only stranded ones stay, since nothing is passed on over them again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// How many bytes are passed on at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What the proxy does to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing: every byte is passed on.
    None,
    /// Ends every connection at once.
    Refuse,
    /// Takes bytes from both sides and passes none on.
    Silence,
    /// Passes on what clients send, and drops what the server answers.
    LoseReplies,
    /// Passes on everything, but answers this much later.
    Delay(Duration),
}

impl Trouble {
    fn loses_bytes(self) -> bool {
        matches!(self, Self::Silence | Self::LoseReplies)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

/// What the proxy does now, and how often connections were cut or stranded.
#[derive(Clone, Copy)]
struct Orders {
    trouble: Trouble,
    cuts: u64,
    strandings: u64,
}

/// A proxy in front of one server. Dropping it ends its connections and frees its port.
pub struct Proxy {
    address: SocketAddr,
    orders: Arc<watch::Sender<Orders>>,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of loopback, and passes everything on to the server at this `host:port`.
    ///
    /// # Errors
    ///
    /// If no port is available.
    pub async fn start(server: impl Into<String>) -> io::Result<Self> {
        Self::start_overheard(server, || |_: &[u8]| ()).await
    }

    /// The same, but overheard: `ear` makes a listener for each connection, which hears each piece that the client
    /// sends before it is passed on.
    ///
    /// # Errors
    ///
    /// If no port is available.
    #[expect(clippy::disallowed_methods, reason = "a tool of tests, whose task ends with its owner")]
    pub async fn start_overheard<E, H>(server: impl Into<String>, ear: E) -> io::Result<Self>
    where
        E: Fn() -> H + Send + 'static,
        H: FnMut(&[u8]) + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let orders = Arc::new(watch::Sender::new(Orders { trouble: Trouble::None, cuts: 0, strandings: 0 }));
        let task = tokio::spawn(accept(listener, server.into(), orders.subscribe(), ear)).abort_handle();
        Ok(Self { address, orders, task })
    }

    /// The address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes trouble from now on; [`Trouble::None`] ends it.
    pub fn make(&self, trouble: Trouble) {
        self.orders.send_modify(|orders| {
            // Ends connections that have lost bytes or are refused.
            orders.cuts += u64::from(orders.trouble.loses_bytes() || trouble == Trouble::Refuse);
            orders.trouble = trouble;
        });
    }

    /// Ends all connections; new ones work as the present trouble allows.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// Leaves all connections open and passes nothing on over them any more, until they are cut; new ones work as the
    /// present trouble allows.
    pub fn strand(&self) {
        self.orders.send_modify(|orders| orders.strandings += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<H: FnMut(&[u8]) + Send + 'static>(
    listener: TcpListener,
    server: String,
    orders: watch::Receiver<Orders>,
    ear: impl Fn() -> H,
) {
    // Aborts its connections when this task is aborted.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(client, server.clone(), orders.clone(), ear()));
    }
}

/// Serves one connection until it ends; any failure ends both sides.
async fn connect(client: TcpStream, server: String, orders: watch::Receiver<Orders>, hear: impl FnMut(&[u8])) {
    let Orders { trouble, cuts, strandings } = *orders.borrow();
    if trouble == Trouble::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let is_quick = client.set_nodelay(true).is_ok() && server.set_nodelay(true).is_ok();
    debug_assert!(is_quick, "a live socket takes the option");
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut until_cut = orders.clone();
    tokio::select! {
        biased;
        _ = until_cut.wait_for(|now| now.cuts != cuts) => {}
        () = pass(Direction::ToServer, from_client, to_server, orders.clone(), strandings, hear) => {}
        () = pass(Direction::ToClient, from_server, to_client, orders, strandings, |_| ()) => {}
    }
}

/// Passes on what one side sends, until either side ends; nothing once more than these strandings were ordered.
async fn pass(
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    orders: watch::Receiver<Orders>,
    strandings: u64,
    mut hear: impl FnMut(&[u8]),
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        hear(&piece[..length]);
        let now = *orders.borrow();
        let trouble = now.trouble;
        let is_answer = matches!(direction, Direction::ToClient);
        let is_silent = trouble == Trouble::Silence || now.strandings != strandings;
        if is_silent || (trouble == Trouble::LoseReplies && is_answer) {
            continue;
        }
        if let (Trouble::Delay(delay), true) = (trouble, is_answer) {
            sleep(delay).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A server that answers every byte with the next one, and counts the bytes it received.
    async fn server(count: watch::Sender<usize>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = count.clone();
                connections.spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        count.send_modify(|count| *count += 1);
                        stream.write_u8(byte + 1).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    struct Fixture {
        proxy: Proxy,
        count: watch::Receiver<usize>,
    }

    impl Fixture {
        async fn new() -> Self {
            let (sender, count) = watch::channel(0);
            let proxy = Proxy::start(server(sender).await.to_string()).await.unwrap();
            Self { proxy, count }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.proxy.address()).await.unwrap()
        }
    }

    #[tokio::test]
    async fn without_trouble_everything_arrives_however_late() {
        let fixture = Fixture::new().await;
        let mut stream = fixture.connect().await;
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
        fixture.proxy.make(Trouble::Delay(Duration::from_millis(1)));
        assert_eq!(ask(&mut stream, 2).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_lets_new_ones_in() {
        let fixture = Fixture::new().await;
        let mut stream = fixture.connect().await;
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
        fixture.proxy.cut();
        assert!(stream.read_u8().await.is_err());
        assert_eq!(ask(&mut fixture.connect().await, 1).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_server_that_is_down_answers_nobody_until_it_is_back() {
        let fixture = Fixture::new().await;
        let mut stream = fixture.connect().await;
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
        fixture.proxy.make(Trouble::Refuse);
        assert!(stream.read_u8().await.is_err());
        assert!(ask(&mut fixture.connect().await, 1).await.is_err());
        fixture.proxy.make(Trouble::None);
        assert_eq!(ask(&mut fixture.connect().await, 1).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_lost_reply_is_that_of_a_request_which_took_effect() {
        let mut fixture = Fixture::new().await;
        let mut stream = fixture.connect().await;
        fixture.proxy.make(Trouble::LoseReplies);
        stream.write_u8(1).await.unwrap();
        fixture.count.wait_for(|count| *count == 1).await.unwrap();
        fixture.proxy.make(Trouble::None);
        assert!(stream.read_u8().await.is_err(), "a stream with a hole in it goes on");
        assert_eq!(ask(&mut fixture.connect().await, 1).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn in_silence_nothing_arrives_on_either_side() {
        let fixture = Fixture::new().await;
        let mut stream = fixture.connect().await;
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
        fixture.proxy.make(Trouble::Silence);
        stream.write_u8(1).await.unwrap();
        assert!(timeout(Duration::from_millis(50), stream.read_u8()).await.is_err(), "something came back");
        assert_eq!(*fixture.count.borrow(), 1);
    }

    #[tokio::test]
    async fn stranded_connections_stay_silent_and_new_ones_work() {
        let fixture = Fixture::new().await;
        let mut stream = fixture.connect().await;
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
        fixture.proxy.strand();
        assert_eq!(ask(&mut fixture.connect().await, 1).await.unwrap(), 2);
        fixture.proxy.make(Trouble::None);
        stream.write_u8(1).await.unwrap();
        assert!(timeout(Duration::from_millis(50), stream.read_u8()).await.is_err(), "something came back");
        assert_eq!(*fixture.count.borrow(), 2);
    }
}
