-- Times are microseconds since 1970 UTC. The view sagamill_sagas shows them, and the engine's state, to people.

CREATE TABLE sagamill_instances (
    id          TEXT    NOT NULL PRIMARY KEY,
    definition  TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    revision    INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    settled     INTEGER NOT NULL,
    attention   TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    wake_at     INTEGER, -- a lower bound of what is due first
    lease_till  INTEGER,
    engine      BLOB    NOT NULL,
    data        BLOB    NOT NULL,
    UNIQUE (definition, key)
) STRICT;

-- For sweeps, which ask by definition and version: what others know and this process does not is never in their way.
CREATE INDEX sagamill_instances_due ON sagamill_instances (definition, version, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX sagamill_instances_unsettled ON sagamill_instances (definition, id, version) WHERE settled = 0;
CREATE INDEX sagamill_instances_attention ON sagamill_instances (id) WHERE attention <> '';

-- Without a rowid the records of an instance lie side by side: one tree to write to instead of two, and one range to read.
CREATE TABLE sagamill_history (
    instance_id TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    input       TEXT,    -- only of inputs from outside
    entry       BLOB    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (instance_id, revision)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX sagamill_history_inputs ON sagamill_history (instance_id, input) WHERE input IS NOT NULL;

CREATE TABLE sagamill_start_keys (
    key         TEXT    NOT NULL PRIMARY KEY,
    fingerprint BLOB    NOT NULL,
    response    BLOB    NOT NULL,
    instance_id TEXT    NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX sagamill_start_keys_instance ON sagamill_start_keys (instance_id);

CREATE TABLE sagamill_shapes (
    definition TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    names      BLOB    NOT NULL,
    PRIMARY KEY (definition, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE sagamill_dead_letters (
    id       TEXT    NOT NULL PRIMARY KEY,
    topic    TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    metadata TEXT    NOT NULL, -- JSON
    payload  BLOB    NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

CREATE VIEW sagamill_sagas AS
SELECT id, definition, version, key, revision, state,
       iif(settled, 'yes', 'no') AS settled,
       attention,
       strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1e6, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1e6, 'unixepoch') AS updated_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', wake_at / 1e6, 'unixepoch') AS wake_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', lease_till / 1e6, 'unixepoch') AS lease_till,
       CAST(engine AS TEXT) AS engine,
       iif(json_valid(CAST(data AS TEXT)), CAST(data AS TEXT), hex(data)) AS data
FROM sagamill_instances;
