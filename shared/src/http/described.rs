//! Routes and their description from one source, so that neither exists without the other.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::__dev::SchemaReferences;
use utoipa::openapi::path::Paths;
use utoipa::{PartialSchema, Path, ToSchema};
use utoipa_axum::PathItemExt;
use utoipa_axum::router::UtoipaMethodRouter;

use super::ProblemBody;

/// A handler at the path and methods of its `#[utoipa::path]`, for `OpenApiRouter::routes`.
///
/// The macro `routes!` of utoipa-axum does the same, except for generic handlers. The attribute on a handler `list`
/// makes a type `__path_list`; a value of it is the first argument.
pub fn described<P, H, T, S>(description: P, handler: H) -> UtoipaMethodRouter<S>
where
    P: Path + SchemaReferences,
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    described_at(&P::path(), description, handler)
}

/// The same at another path: a second spelling of an existing route.
pub fn described_at<P, H, T, S>(path: &str, _: P, handler: H) -> UtoipaMethodRouter<S>
where
    P: Path + SchemaReferences,
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    // Refusals that several routes share refer to it without bringing it along.
    let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
    ProblemBody::schemas(&mut schemas);
    P::schemas(&mut schemas);
    let mut operation = P::operation();
    if path != P::path() {
        // Two operations must not share an id.
        operation.operation_id = None;
    }
    let mut paths = Paths::new();
    paths.add_path_operation(path, P::methods(), operation);
    let methods = P::methods().iter().map(PathItemExt::to_method_filter).reduce(MethodFilter::or);
    let router = methods.map_or_else(MethodRouter::new, |methods| on(methods, handler));
    (schemas, paths, router)
}
