CREATE TABLE IF NOT EXISTS {{idempotency}} (
    tenant      VARBINARY(255)  NOT NULL,
    route       VARBINARY(2048) NOT NULL,
    request_key VARBINARY(255)  NOT NULL,
    fingerprint BINARY(32)      NOT NULL,                -- SHA-256 of the request; 32 zero bytes: none
    token       BIGINT          NOT NULL AUTO_INCREMENT, -- the fencing token of the last that claimed the key
    completed   TINYINT         NOT NULL DEFAULT 0,      -- 0: in progress
    until       BIGINT          NOT NULL,                -- the end of the lease or, when completed, of the TTL
    holds       VARBINARY(1024) NOT NULL DEFAULT '',
    status      INT             NOT NULL DEFAULT 0,
    header      LONGBLOB        NULL,                    -- JSON: name -> values; null: none
    body        LONGBLOB        NULL,
    PRIMARY KEY (tenant, route, request_key),
    KEY by_token (token),
    KEY by_until (until)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;
