-- What was appended lately, in the order of the feed; each row a write. The first write of a commit carries what the
-- commit itself leaves. Sorted into `writes`, `commits` and `positions` later, and gone from here then.
CREATE TABLE recent (
    position      INTEGER NOT NULL PRIMARY KEY,
    slot          INTEGER NOT NULL,
    stream        BLOB    NOT NULL,
    first_version INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    time          INTEGER NOT NULL, -- microseconds since 1970
    events        BLOB    NOT NULL,
    commit_id     BLOB, -- there in the first write of a commit, as the receipt is
    key           TEXT,
    request       BLOB, -- there if and only if key is
    receipt       BLOB
) STRICT;

-- How far the sorting is: of the rows of `recent` up to position `through`, those with a slot below `slots` are in
-- `writes` already.
CREATE TABLE sorting (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    through INTEGER NOT NULL,
    slots   INTEGER NOT NULL
) STRICT;

INSERT INTO sorting (one, through, slots) VALUES (1, 0, 0);

-- Where in `writes` a position is; only of what is gone from `recent`.
CREATE TABLE positions (
    position      INTEGER NOT NULL PRIMARY KEY,
    slot          INTEGER NOT NULL,
    stream        BLOB    NOT NULL,
    first_version INTEGER NOT NULL
) STRICT;

INSERT INTO positions (position, slot, stream, first_version)
SELECT position, slot, stream, first_version FROM writes ORDER BY position;

DROP INDEX writes_by_position;

-- Everything, for people who ask with SQL; the program reads the tables.
CREATE VIEW all_writes AS
SELECT slot, stream, first_version, count, time, position, events FROM writes
UNION
SELECT slot, stream, first_version, count, time, position, events FROM recent;

CREATE VIEW all_commits AS
SELECT id, time, key, request, receipt FROM commits
UNION ALL
SELECT commit_id, time, key, request, receipt FROM recent WHERE commit_id IS NOT NULL;
