-- What a participant's barrier knows: the replies to commands.
CREATE TABLE {{inbox}} (
    effect  text COLLATE "C" NOT NULL,
    undo    boolean          NOT NULL, -- true: of the compensation
    outcome text COLLATE "C" NOT NULL, -- succeeded, rejected
    reason  text             NOT NULL,
    reply   bytea            NOT NULL,
    at      timestamptz      NOT NULL,
    PRIMARY KEY (effect, undo)
);

CREATE INDEX {{=inbox_at}} ON {{inbox}} (at);
