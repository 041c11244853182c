-- The number of the newest generation ever made, and the one that answers queries.
CREATE TABLE state (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    newest INTEGER NOT NULL,
    active INTEGER
) STRICT;

INSERT INTO state (one, newest, active) VALUES (1, 0, NULL);

-- The documents of generation 1 stand in table balance_000001, and so on.
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    -- Who sealed it; nothing while it takes writes.
    seal   BLOB
) STRICT;

CREATE TABLE checkpoints (
    generation  INTEGER NOT NULL,
    partition   INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    incarnation TEXT NOT NULL,
    after       INTEGER NOT NULL,
    phase       TEXT NOT NULL,
    PRIMARY KEY (generation, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE parked (
    generation INTEGER NOT NULL,
    account    BLOB NOT NULL,
    slot       INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    since      INTEGER NOT NULL,
    PRIMARY KEY (generation, account)
) STRICT, WITHOUT ROWID;
