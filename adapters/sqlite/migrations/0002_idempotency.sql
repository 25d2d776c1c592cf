CREATE TABLE sagamill_idempotency (
  tenant      TEXT    NOT NULL,
  route       TEXT    NOT NULL,
  key         TEXT    NOT NULL,
  fingerprint BLOB    NOT NULL,           -- SHA-256 of the request; 32 zero bytes: none
  token       INTEGER NOT NULL,           -- the last that claimed the key
  completed   INTEGER NOT NULL DEFAULT 0, -- 0: in progress
  until       INTEGER NOT NULL,           -- the end of the lease or, when completed, of the TTL; microseconds since 1970
  holds       TEXT    NOT NULL DEFAULT '',
  status      INTEGER NOT NULL DEFAULT 0,
  header      TEXT    NOT NULL DEFAULT '', -- JSON: name -> values
  body        BLOB,
  PRIMARY KEY (tenant, route, key)
) STRICT;

CREATE INDEX sagamill_idempotency_until ON sagamill_idempotency (until);

-- The last fencing token given. It is never deleted and never smaller than before.
CREATE TABLE sagamill_idempotency_token (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  last INTEGER NOT NULL
) STRICT;

INSERT INTO sagamill_idempotency_token (one, last) VALUES (1, 0);
