-- {{name}} stands for a table with the prefix. Texts are kept as bytes: no collation folds two of them into one, or ignores spaces at
-- their ends. Times are microseconds since 1970 UTC. Statements end with a semicolon at the end of a line, and may be run again:
-- MySQL commits each for itself. There are no generated columns: MariaDB 10.11 loses
-- index entries of virtual ones in INSERT ... ON DUPLICATE KEY UPDATE.

CREATE TABLE IF NOT EXISTS {{instances}} (
    id           VARBINARY(255)  NOT NULL PRIMARY KEY,
    definition   VARBINARY(255)  NOT NULL,
    version      INT             NOT NULL,
    business_key VARBINARY(1024) NOT NULL,
    fingerprint  VARBINARY(255)  NOT NULL,
    revision     BIGINT UNSIGNED NOT NULL,
    state        VARBINARY(255)  NOT NULL,
    settled      TINYINT         NOT NULL,
    attention    MEDIUMBLOB      NOT NULL,
    created_at   BIGINT          NOT NULL,
    updated_at   BIGINT          NOT NULL,
    wake_at      BIGINT          NULL, -- a lower bound of what is due first
    lease_till   BIGINT          NULL,
    engine       LONGBLOB        NOT NULL,
    data         LONGBLOB        NULL, -- never null; a transition that leaves it alone brings null
    UNIQUE KEY by_business_key (definition, business_key),
    -- For sweeps, which ask by definition and version: what others know and this process does not is never in their way.
    KEY by_due (definition, version, wake_at),
    KEY by_settled (definition, settled, version),
    KEY by_attention (attention(1))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS {{history}} (
    instance_id VARBINARY(255)  NOT NULL,
    revision    BIGINT UNSIGNED NOT NULL,
    input       VARBINARY(1024) NULL, -- only of inputs from outside
    entry       LONGBLOB        NOT NULL,
    at          BIGINT          NOT NULL,
    PRIMARY KEY (instance_id, revision),
    UNIQUE KEY by_input (instance_id, input)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS {{start_keys}} (
    hash        BINARY(32)     NOT NULL PRIMARY KEY, -- SHA-256 of the key, which may be longer than any index takes
    start_key   BLOB           NOT NULL,
    fingerprint VARBINARY(255) NOT NULL,
    response    LONGBLOB       NOT NULL,
    instance_id VARBINARY(255) NOT NULL,
    expires_at  BIGINT         NOT NULL,
    KEY by_instance (instance_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS {{shapes}} (
    definition VARBINARY(255) NOT NULL,
    version    INT            NOT NULL,
    names      LONGBLOB       NULL, -- null while a transaction is at it
    PRIMARY KEY (definition, version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS {{dead_letters}} (
    id       VARBINARY(2048) NOT NULL PRIMARY KEY,
    topic    BLOB            NOT NULL,
    reason   MEDIUMBLOB      NOT NULL,
    metadata LONGBLOB        NOT NULL, -- JSON
    payload  LONGBLOB        NOT NULL,
    at       BIGINT          NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;

-- For people: texts as such, JSON as such, other bytes in hexadecimal digits, times in UTC.
CREATE OR REPLACE VIEW {{sagas}} AS
SELECT CONVERT(id USING utf8mb4) AS id, CONVERT(definition USING utf8mb4) AS definition, version,
       CONVERT(business_key USING utf8mb4) AS business_key, revision, CONVERT(state USING utf8mb4) AS state, settled,
       CONVERT(attention USING utf8mb4) AS attention,
       TIMESTAMPADD(MICROSECOND, created_at, '1970-01-01') AS created_at,
       TIMESTAMPADD(MICROSECOND, updated_at, '1970-01-01') AS updated_at,
       TIMESTAMPADD(MICROSECOND, wake_at, '1970-01-01') AS wake_at,
       TIMESTAMPADD(MICROSECOND, lease_till, '1970-01-01') AS lease_till,
       IF(JSON_VALID(CONVERT(engine USING utf8mb4)), CONVERT(engine USING utf8mb4), HEX(engine)) AS engine,
       IF(JSON_VALID(CONVERT(data USING utf8mb4)), CONVERT(data USING utf8mb4), HEX(data)) AS data
FROM {{instances}};
