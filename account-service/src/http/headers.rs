//! The headers of answers, as `/openapi.json` describes them.

use shared::http::AnswerHeader;

pub(super) const ETAG: AnswerHeader = AnswerHeader::new("ETag", "Version of the account, in quotation marks");

const REPLAYED: AnswerHeader =
    AnswerHeader::new("Idempotent-Replayed", "`true` if an earlier request with this key took effect");

const ACCOUNT: AnswerHeader = AnswerHeader::new("Location", "Path of the account");

const TRANSACTION: AnswerHeader = AnswerHeader::new("Location", "Path of the transaction");

const PREFERENCE: AnswerHeader =
    AnswerHeader::new("Preference-Applied", "`return=representation` if the body is the transaction");

/// Of a command that opens an account.
pub(super) const OPENED: [AnswerHeader; 3] = [ACCOUNT, ETAG, REPLAYED];

/// Of a command that changes one account and is answered with it.
pub(super) const CHANGED: [AnswerHeader; 2] = [ETAG, REPLAYED];

/// Of a command that is answered with the two accounts it has changed.
pub(super) const TRANSFERRED: [AnswerHeader; 2] = [TRANSACTION, REPLAYED];

/// Of a command that is answered with its transaction.
pub(super) const TRANSACTED: [AnswerHeader; 3] = [TRANSACTION, PREFERENCE, REPLAYED];
