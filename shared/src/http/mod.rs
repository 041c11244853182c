//! The HTTP edge that both services share: what is refused, what a refusal looks like, and how a server starts and
//! stops.
//!
//! H1  Every refusal is a [`Problem`] whose code and status come from one table, [`Reason`].
//! H2  Input is taken as meant or refused: an unknown or repeated field or parameter is refused, and so is a repeated
//!     header that the route reads, unless it is a list, which HTTP allows to be repeated. Two things are ignored: the
//!     body of a read, and the query of a request to an operational route ([`with_operations`]), since probes may add
//!     to it.
//! H3  Nothing that a client does or fails to do holds a connection, a buffer or a task without a bound ([`Limits`]).
//! H4  A panic in a handler costs one request, never the server.
//! H5  At shutdown a request in progress is answered, within [`Limits::drain`].
//!
//! [`guarded`] gives a router H1 and H4 and the time limit, and belongs around every router, also in tests; [`serve()`]
//! adds what needs a socket.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod count;
mod described;
mod edge;
mod expected;
mod extract;
mod guard;
mod health;
mod limits;
mod page;
mod problem;
mod query;
mod reason;
mod refusals;
mod serve;
mod stall;
mod telling;

pub use described::{described, described_at};
pub use edge::{Edge, RunError};
pub use expected::whole_within;
pub use extract::{JsonBody, NoBody, PathId, header};
pub use guard::{TimeAllowance, guarded};
pub use health::{Dependency, Operations, with_operations};
pub use limits::Limits;
pub use page::{NEXT_PAGE, PageLimit, next_link};
pub use problem::{FieldError, PROBLEM_JSON, Problem, ProblemBody};
pub use query::{NoParams, QueryParams};
pub use reason::Reason;
pub use refusals::{Unavailable, problems};
pub use serve::serve;
pub use telling::{AnswerHeader, telling};
