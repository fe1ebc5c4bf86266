-- A queue as the second version of the store left it.
CREATE TABLE run (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    task TEXT NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    fire_time INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    cancel TEXT,
    alone INTEGER NOT NULL,
    finished INTEGER,
    envelope TEXT NOT NULL,
    died INTEGER,
    hold TEXT
) STRICT;
CREATE INDEX run_delayed ON run (namespace, due) WHERE state < 3;
CREATE INDEX run_ready ON run (namespace, priority DESC, due, seq) WHERE state = 3;
CREATE INDEX run_leased ON run (namespace, lease_until) WHERE state = 4;
CREATE INDEX run_shown ON run (namespace, fire_time DESC, id DESC);
CREATE INDEX run_shown_of_task ON run (namespace, task, fire_time DESC, id DESC);
CREATE TABLE schedule (
    namespace TEXT NOT NULL,
    task TEXT NOT NULL,
    revision INTEGER NOT NULL,
    definition TEXT NOT NULL,
    decided INTEGER NOT NULL,
    served_since INTEGER NOT NULL,
    served_until INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    finished INTEGER,
    paused TEXT,
    PRIMARY KEY (namespace, task)
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT;
INSERT INTO meta VALUES ('fence', 0), ('boot', '');
CREATE INDEX run_live ON run (namespace, task, state, seq) WHERE state < 10;
CREATE INDEX run_ended ON run (namespace, finished) WHERE state >= 10 AND died IS NULL;
CREATE INDEX run_letter ON run (namespace, fire_time DESC, id DESC) WHERE died IS NOT NULL;
CREATE INDEX run_letter_of_task ON run (namespace, task, fire_time DESC, id DESC) WHERE died IS NOT NULL;
CREATE INDEX run_died ON run (namespace, died) WHERE died IS NOT NULL AND hold IS NULL;
PRAGMA user_version = 2;
INSERT INTO run (id, namespace, task, state, priority, due, fire_time, attempt, max_attempts, fence, alone, finished, died, envelope) VALUES
    ('76ysmfagy4sd1a2jscrk70hq8r', 'default', 'backup', 11, 5, 1774695600000, 1774695600000, 2, 2, 7, 1, 1774695600500, 1774695600500, '{"v":1,"reason":"no"}'),
    ('01kms9y8000000000000000001', 'default', 'backup', 10, 5, 1774695600000, 1774695600000, 1, 2, 8, 1, 1774695600600, NULL, '{"v":1,"output":"done"}'),
    ('01kms9y8000000000000000002', 'default', 'report', 3, 5, 1774695600000, 1774695600000, 0, 2, 0, 1, NULL, NULL, '{"v":1,"origin":"manual"}');
