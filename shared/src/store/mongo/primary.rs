//! Which member is the primary, as the driver sees it.
//!
//! A change stream stays with the member that opened it: the driver sends each further request to that address, a
//! secondary answers it as well, and a step-down closes no cursor. A former primary that lags, or is cut off from the
//! other members but not from this process, would say for ever that nothing has changed. So a feed asks here whether
//! the primary has changed since it asked for its cursor, and then opens another one.
//!
//! Why that is enough: the driver's monitors see every member, and it sends each read to the one that they see as the
//! primary. A cursor that was asked for since the last change is therefore where a read would go. While no primary is
//! seen, the cursor stays where it is, and is right if the same member is elected again.
//!
//! It costs no request, and how far a cursor is behind does not matter: one that works through a backlog, or is
//! searched for, on the primary is left alone. A change closes a cursor once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::ServerType;
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::ServerAddress;
use tokio::time::Instant;

/// How long after a change the driver certainly acts on it. It tells of a change a moment before, so a cursor that is
/// asked for in that moment may still be at the former primary.
const ACTED_ON_AFTER: Duration = Duration::from_secs(1);

/// The primary that the driver has seen last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Primary(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    address: Option<ServerAddress>,
    /// When it took the place of another one.
    changed: Option<Instant>,
}

impl Primary {
    /// What the driver has to tell its events to.
    pub(super) fn observer(&self) -> EventHandler<SdamEvent> {
        let observed = self.clone();
        EventHandler::callback(move |event| {
            let SdamEvent::TopologyDescriptionChanged(change) = event else { return };
            let servers = change.new_description.servers();
            if let Some(primary) = servers.values().find(|server| server.server_type() == ServerType::RsPrimary) {
                observed.see(primary.address());
            }
        })
    }

    fn see(&self, primary: &ServerAddress) {
        let mut seen = self.lock();
        let before = seen.address.replace(primary.clone());
        if before.is_some_and(|before| before != *primary) {
            seen.changed = Some(Instant::now());
        }
    }

    /// Whether a cursor that was asked for at this time may be at a former primary.
    pub(super) fn has_changed_since(&self, asked: Instant) -> bool {
        let acted_on = self.lock().changed.map(|changed| changed + ACTED_ON_AFTER);
        acted_on.is_some_and(|acted_on| asked < acted_on && acted_on <= Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn member(port: u16) -> ServerAddress {
        ServerAddress::Tcp { host: "member".to_owned(), port: Some(port) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_before_the_driver_acts_on_another_primary_is_outdated_from_then_on() {
        let primary = Primary::default();
        let before = Instant::now();
        primary.see(&member(1));
        primary.see(&member(2));
        let meanwhile = Instant::now();
        assert!(!primary.has_changed_since(meanwhile), "the driver may not act on it yet");
        advance(ACTED_ON_AFTER).await;
        assert!(primary.has_changed_since(before) && primary.has_changed_since(meanwhile));
        assert!(!primary.has_changed_since(Instant::now()), "it would be closed again and again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_primary_and_one_that_is_elected_again_are_no_change() {
        let (primary, asked) = (Primary::default(), Instant::now());
        primary.see(&member(1));
        primary.see(&member(1));
        advance(2 * ACTED_ON_AFTER).await;
        assert!(!primary.has_changed_since(asked));
    }
}
