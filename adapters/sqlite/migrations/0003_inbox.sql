-- What a participant's barrier knows: the replies to commands. Times are microseconds since 1970 UTC.
CREATE TABLE sagamill_inbox (
  effect  TEXT    NOT NULL,
  undo    INTEGER NOT NULL, -- 1: of the compensation
  outcome TEXT    NOT NULL, -- succeeded, rejected
  reason  TEXT    NOT NULL,
  reply   BLOB    NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (effect, undo)
) STRICT, WITHOUT ROWID;

CREATE INDEX sagamill_inbox_at ON sagamill_inbox (at);
