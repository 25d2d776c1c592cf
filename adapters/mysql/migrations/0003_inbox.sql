-- What a participant's barrier knows: the replies to commands. One row is one effect, its action and its compensation, so that
-- its commands wait for each other by the lock of the row. No outcome: there was no such command, or its transaction is at work.
CREATE TABLE IF NOT EXISTS {{inbox}} (
    effect       VARBINARY(1024) NOT NULL PRIMARY KEY,
    outcome      VARBINARY(16)   NOT NULL DEFAULT '', -- succeeded, rejected
    reason       MEDIUMBLOB      NULL,
    reply        LONGBLOB        NULL,
    undo_outcome VARBINARY(16)   NOT NULL DEFAULT '',
    undo_reason  MEDIUMBLOB      NULL,
    undo_reply   LONGBLOB        NULL,
    at           BIGINT          NOT NULL,
    KEY by_at (at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;
