use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, PathItem};

use super::{accounts, money};

#[derive(OpenApi)]
#[openapi(
    info(title = "Account service", description = "Takes commands. Money is a whole number of minor units."),
    paths(
        accounts::open,
        accounts::show,
        accounts::rename,
        accounts::close,
        money::deposit,
        money::withdraw,
        money::transfer,
        money::transact,
        money::show,
    )
)]
struct Description;

/// What the service can do, for machines.
pub(super) fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    let paths = &mut description.paths.paths;
    // The verb style spells two of the routes in another way. Names of operations must be unique.
    let create = paths.get("/accounts").and_then(|accounts| accounts.post.clone());
    let show = paths.get("/accounts/{id}").and_then(|account| account.get.clone());
    let spellings = [("/create", HttpMethod::Post, "create", create), ("/{id}", HttpMethod::Get, "show_account", show)];
    for (path, method, name, operation) in spellings {
        let Some(mut operation) = operation else { continue };
        operation.operation_id = Some(name.to_owned());
        paths.insert(path.to_owned(), PathItem::new(method, operation));
    }
    description
}
