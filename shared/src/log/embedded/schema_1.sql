-- How many partitions the log was made with, and in which start of the machine it was written last.
CREATE TABLE log (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    partitions INTEGER NOT NULL,
    machine_start TEXT NOT NULL
) STRICT;

CREATE TABLE partitions (
    number      INTEGER PRIMARY KEY,
    incarnation TEXT NOT NULL,
    trimmed     INTEGER NOT NULL,
    last        INTEGER NOT NULL
) STRICT;

-- place = partition * 2^48 + offset: a partition's records lie side by side, and a row is found by one integer.
CREATE TABLE records (
    place         INTEGER PRIMARY KEY,
    stream        BLOB NOT NULL,
    first_version INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    time          INTEGER NOT NULL,
    published     INTEGER NOT NULL,
    events        BLOB NOT NULL
) STRICT;
