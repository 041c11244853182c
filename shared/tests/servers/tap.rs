//! What a call of a port costs on the wire: how many requests its backend sends.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::proxy::Proxy;

use crate::request::{Request, first};
use crate::server::Server;

type Counts = BTreeMap<String, u64>;

/// A proxy in front of a server that counts requests by their names. Each test has its own, so no other test disturbs
/// its counts.
pub(crate) struct Tap {
    proxy: Proxy,
    counts: Arc<Mutex<Counts>>,
}

impl Tap {
    pub(crate) async fn on(server: Server) -> Self {
        let counts = Arc::new(Mutex::new(Counts::new()));
        let heard = Arc::clone(&counts);
        let ear = move || {
            let (counts, mut sent) = (Arc::clone(&heard), Vec::new());
            move |piece: &[u8]| {
                sent.extend_from_slice(piece);
                while let Some(Request { length, name }) = first(server, &sent) {
                    sent.drain(..length);
                    if let Some(name) = name {
                        *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
                    }
                }
            }
        };
        let proxy = Proxy::start_overheard(server.address(), ear).await.expect("a port of loopback");
        Self { proxy, counts }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.proxy.address().to_string()
    }

    /// The answer of a call that sends at most this many requests; it must send one, to show that the tap counts.
    #[track_caller]
    pub(crate) fn costs<T>(&self, at_most: u64, call: impl Future<Output = T>) -> impl Future<Output = T> {
        let caller = Location::caller();
        async move {
            self.counts().clear();
            let answer = call.await;
            let counts = self.counts().clone();
            let sum: u64 = counts.values().sum();
            assert!((1..=at_most).contains(&sum), "{caller}: {sum} requests, at most {at_most}: {counts:?}");
            answer
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
