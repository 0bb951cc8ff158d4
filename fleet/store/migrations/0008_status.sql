-- Revocation lists in parts, and holds.

-- The last four hex digits of the serial, which say in which part of the list the entry stands.
ALTER TABLE revocations ADD COLUMN shard TEXT NOT NULL DEFAULT '';
-- The number of the issuer's newest list when the entry last changed: every later list holds it as it is.
ALTER TABLE revocations ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
UPDATE revocations SET shard = substr(serial, length(serial) - 3);
-- Holds all that a list is made of, so that a million entries are read in the order of the index, and alone.
CREATE INDEX revocations_listed ON revocations (issuer, shard, not_after, entry);
CREATE INDEX revocations_since ON revocations (issuer, since);
CREATE INDEX revocations_for_cause ON revocations (issuer, revoked_at) WHERE for_cause = 1;

-- When a certificate was on hold (certificateHold), once for each time; history is asked here.
CREATE TABLE holds (
    issuer TEXT NOT NULL,
    serial TEXT NOT NULL,
    held_at TEXT NOT NULL,
    -- NULL while it lasts.
    ended_at TEXT,
    -- 1 where it was released, 0 where something graver took its place, or nothing did yet.
    released BIGINT NOT NULL DEFAULT 0,
    -- The number of the issuer's newest list when it was released: delta lists say so from there on.
    since BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (issuer, serial, held_at)
);
CREATE INDEX holds_by_serial ON holds (serial, held_at);
CREATE INDEX holds_released ON holds (issuer, since) WHERE released = 1;

-- The newest complete list of each issuing CA that was made in its turn and not because something ended, and the
-- one before it: delta lists start from that one, and what expired before it has been on a list since.
CREATE TABLE crl_turns (
    issuer TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    made_at TEXT NOT NULL,
    base_number BIGINT NOT NULL,
    base_at TEXT NOT NULL
);

-- Where leaves were sent for their status, http://HOST[:PORT]: parts of lists go by the names that leaves have for
-- them, after a move too.
CREATE TABLE status_urls (
    url TEXT PRIMARY KEY,
    -- When new leaves began to name it, the last time.
    since TEXT NOT NULL
);

-- The newest revocation list of each root, made when its key was at hand. Those of issuing CAs are made from
-- `revocations` when they are asked for, and are not kept.
CREATE TABLE root_crls (
    issuer TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    this_update TEXT NOT NULL,
    next_update TEXT NOT NULL,
    der BLOB NOT NULL
);
INSERT INTO root_crls (issuer, number, this_update, next_update, der)
SELECT issuer, number, this_update, next_update, der FROM crls
WHERE issuer IN (SELECT issuer FROM certificates WHERE purpose = 'authority');
DROP TABLE crls;
