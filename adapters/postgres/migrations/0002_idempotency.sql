CREATE TABLE {{idempotency}} (
    tenant      text COLLATE "C" NOT NULL,
    route       text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea            NOT NULL,               -- SHA-256 of the request; 32 zero bytes: none
    token       bigint           NOT NULL,               -- the last that claimed the key
    completed   boolean          NOT NULL DEFAULT false, -- false: in progress
    until       timestamptz      NOT NULL,               -- the end of the lease or, when completed, of the TTL
    holds       text COLLATE "C" NOT NULL DEFAULT '',
    status      integer          NOT NULL DEFAULT 0,
    header      text             NOT NULL DEFAULT '',    -- JSON: name -> values
    body        bytea,
    PRIMARY KEY (tenant, route, key)
);

CREATE INDEX {{=idempotency_until}} ON {{idempotency}} (until);

-- The fencing tokens. Where a copy of the database lags behind with it, Open moves it beyond all tokens on record.
CREATE SEQUENCE {{idempotency_token}};
