-- {{name}} stands for a name of the schema with the prefix, {{=name}} for the same without the schema.

CREATE TABLE {{instances}} (
    id          text COLLATE "C" NOT NULL PRIMARY KEY,
    definition  text COLLATE "C" NOT NULL,
    version     integer          NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea            NOT NULL,
    revision    bigint           NOT NULL,
    state       text COLLATE "C" NOT NULL,
    settled     boolean          NOT NULL,
    attention   text COLLATE "C" NOT NULL,
    created_at  timestamptz      NOT NULL,
    updated_at  timestamptz      NOT NULL,
    wake_at     timestamptz, -- a lower bound of what is due first
    lease_till  timestamptz,
    engine      bytea            NOT NULL,
    data        bytea            NOT NULL,
    CONSTRAINT {{=instances_key}} UNIQUE (definition, key)
) WITH (
    -- Most updates touch no indexed column. With room on the page they are HOT: no index is written, and what is dead is
    -- removed by the next one, without a vacuum.
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000
);

-- What changes with each transition stays in the row. The data, which rarely change, go out of line first when it is large.
ALTER TABLE {{instances}} ALTER COLUMN engine SET STORAGE MAIN;

-- For sweeps, which ask by definition and version: what others know and this process does not is never in their way.
CREATE INDEX {{=instances_due}} ON {{instances}} (definition, version, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX {{=instances_unsettled}} ON {{instances}} (definition, id, version) WHERE NOT settled;
CREATE INDEX {{=instances_attention}} ON {{instances}} (id) WHERE attention <> '';

CREATE TABLE {{history}} (
    instance_id text COLLATE "C" NOT NULL,
    revision    bigint           NOT NULL,
    input       text COLLATE "C", -- only of inputs from outside
    entry       bytea            NOT NULL,
    at          timestamptz      NOT NULL,
    CONSTRAINT {{=history_pkey}} PRIMARY KEY (instance_id, revision)
);

CREATE UNIQUE INDEX {{=history_inputs}} ON {{history}} (instance_id, input) WHERE input IS NOT NULL;

CREATE TABLE {{start_keys}} (
    key         text COLLATE "C" NOT NULL PRIMARY KEY,
    fingerprint bytea            NOT NULL,
    response    bytea            NOT NULL,
    -- Deferred: the key is taken first, then the instance is written. If that has to be refused, so is the key.
    instance_id text COLLATE "C" NOT NULL REFERENCES {{instances}} DEFERRABLE INITIALLY DEFERRED,
    expires_at  timestamptz      NOT NULL
);

CREATE INDEX {{=start_keys_instance}} ON {{start_keys}} (instance_id);

CREATE TABLE {{shapes}} (
    definition text COLLATE "C" NOT NULL,
    version    integer          NOT NULL,
    names      bytea            NOT NULL,
    PRIMARY KEY (definition, version)
);

CREATE TABLE {{dead_letters}} (
    id       text COLLATE "C" NOT NULL PRIMARY KEY,
    topic    text             NOT NULL,
    reason   text             NOT NULL,
    metadata json             NOT NULL,
    payload  bytea            NOT NULL,
    at       timestamptz      NOT NULL
);

-- For people: JSON as such, other bytes in hexadecimal digits.
CREATE FUNCTION {{readable}}(bytes bytea) RETURNS jsonb LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN to_jsonb(encode(bytes, 'hex'));
END
$$;

CREATE VIEW {{sagas}} AS
SELECT id, definition, version, key, revision, state, settled, attention, created_at, updated_at, wake_at, lease_till,
       {{readable}}(engine) AS engine, {{readable}}(data) AS data
FROM {{instances}};
