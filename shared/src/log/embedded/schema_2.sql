-- A row holds some records that were published together. place = partition * 2^48 + the offset of the last of them, so
-- the row that holds the next record behind an offset is the first one behind that place, wherever in it that lies.
CREATE TABLE parts (
    place     INTEGER PRIMARY KEY,
    count     INTEGER NOT NULL, -- how many records
    published INTEGER NOT NULL, -- microseconds since 1970
    body      BLOB NOT NULL     -- [{"stream", "first_version", "time", "count", "events"}, ...]
) STRICT;

-- What the file held stands in the store as well. That no start of the machine is named so makes every partition begin
-- another life when the file is opened.
DROP TABLE records;
UPDATE log SET machine_start = 'before there were parts';
