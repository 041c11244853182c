//! How the routes of this service refuse, as `/openapi.json` describes it.

use shared::refusals;

refusals! {
    /// How a page of the projection is refused.
    pub(super) PageRefusals {
        "400" "A parameter is invalid";
        "503" "The projection is being built, or the index does not answer: retry later";
    }

    /// How the balance of an account is refused.
    pub(super) BalanceRefusals {
        "400" "The id or a parameter is invalid";
        "404" "No such account; or it is parked at its first version: then that is in `parked_at`";
        "503" "The projection is being built, the index does not answer, or the service shuts down: retry later";
        "504" "The projection has not reached `min_version`; `version` is its version. With `parked_at` the account is \
               parked at that version, and asking again does not help before an operator acts; only a request with \
               `wait_ms` of 2000 or more is told";
    }

    /// How an account stays parked.
    pub(super) RetryRefusals {
        "400" "The id is invalid, or a parameter or a body was given";
        "404" "The account is not parked";
        "409" "The account stays parked; `parked` says why";
        "503" "A backend does not answer, or a switch is under way: retry later";
    }

    /// How a route that takes neither parameters nor a body refuses both.
    pub(super) NothingTaken {
        "400" "A parameter or a body was given, and there are none";
    }

    /// How a request about a job is answered when a backend does not answer.
    pub(super) JobUnavailable {
        "503" "A backend does not answer: retry later; if the outcome is unknown, look at the status of the job first";
    }

    /// How a second job is refused.
    pub(super) JobRunning {
        "409" "A job is already running; it is in `running`";
    }

    /// How the status of a job is refused.
    pub(super) StatusRefusals {
        "400" "A parameter was given, and there are none";
        "404" "There has been no job yet";
    }

    /// How the end of a job is refused.
    pub(super) CancelRefusals {
        "404" "No job is running";
        "409" "The job is already switching";
    }

    /// How a rollback is refused.
    pub(super) RollbackRefusals {
        "409" "No previous generation is kept, or a job is running";
    }

    /// How a verification is refused.
    pub(super) VerifyRefusals {
        "400" "A parameter is invalid, or a body was given";
        "409" "This service is already running a verification";
    }
}
