use futures::join;
use shared::backends::Backends;
use shared::http::Dependency;
use shared::index::BalanceIndex;
use shared::lease::LeaseStore;
use shared::log::PartitionLog;
use shared::partition::Partition;
use shared::store::EventStore;

/// Sends a small request to every backend. Queries need the index alone, so the service is ready without the others,
/// though the view, rebuilds or verification stand still then. A service whose projection is being built is ready all
/// the same: the routes for rebuilds work.
///
/// Of the log, the first partition stands for all, so that the cost does not grow with their number. Another one may
/// fail meanwhile, which the forwarder counts; it would keep nobody away in any case.
pub(super) async fn dependencies<B: Backends>(backends: B) -> Vec<Dependency> {
    let (store, log, leases, index) = join!(
        Dependency::not_needed("store", backends.store().head()),
        Dependency::not_needed("log", backends.log().extent(Partition::new(1))),
        Dependency::not_needed("leases", backends.leases().list("balance/")),
        Dependency::needed("index", backends.index().generations()),
    );
    vec![store, log, leases, index]
}
