use futures::join;
use shared::backends::Backends;
use shared::http::Dependency;
use shared::index::BalanceIndex;
use shared::lease::LeaseStore;
use shared::log::PartitionLog;
use shared::partition::Partition;
use shared::store::EventStore;

/// Sends a small request to every backend. A service whose projection is being built is ready all the same: the routes
/// for rebuilds work.
pub(super) async fn dependencies<B: Backends>(backends: B) -> Vec<Dependency> {
    let (store, log, leases, index) = join!(
        backends.store().head(),
        backends.log().extent(Partition::new(1)),
        backends.leases().list("balance/"),
        backends.index().generations(),
    );
    vec![
        Dependency { name: "store", ready: store.is_ok() },
        Dependency { name: "log", ready: log.is_ok() },
        Dependency { name: "leases", ready: leases.is_ok() },
        Dependency { name: "index", ready: index.is_ok() },
    ]
}
