-- One write of a commit to one stream. `events` is a JSON array; `count` says of how many events.
CREATE TABLE writes (
    slot          INTEGER NOT NULL,
    stream        BLOB    NOT NULL,
    first_version INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    time          INTEGER NOT NULL, -- microseconds since 1970
    position      INTEGER NOT NULL, -- the order of the feed
    events        BLOB    NOT NULL,
    PRIMARY KEY (slot, stream, first_version)
) WITHOUT ROWID, STRICT;

CREATE UNIQUE INDEX writes_by_position ON writes (position);

-- What was taken, so that it is taken once.
CREATE TABLE commits (
    id      BLOB    NOT NULL PRIMARY KEY,
    time    INTEGER NOT NULL,
    key     TEXT,
    request BLOB, -- there if and only if key is
    receipt BLOB    NOT NULL
) WITHOUT ROWID, STRICT;

CREATE UNIQUE INDEX commits_by_key ON commits (key) WHERE key IS NOT NULL;

CREATE TABLE snapshots (
    stream  BLOB    NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    schema  INTEGER NOT NULL,
    state   BLOB    NOT NULL
) WITHOUT ROWID, STRICT;

-- A removed register keeps its row, without a value, so that its revisions go on growing.
CREATE TABLE registers (
    name     TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    value    BLOB
) WITHOUT ROWID, STRICT;
