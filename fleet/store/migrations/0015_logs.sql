-- Who connected where, and what was refused.

-- Connections, their ends and refusals, as brokers, our own listeners and the logs of other servers tell them.
-- What is alike within some minutes is one row: `times` counts it, between `first_at` and `last_at`.
CREATE TABLE connections (
    number BIGINT PRIMARY KEY,
    -- SHA-256 over what makes two of them alike.
    likeness TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Who saw it: mosquitto, embedded, https, log:NAME, or ship:NAME.
    place TEXT NOT NULL,
    -- Of a refusal; why it ended, for an end.
    cause TEXT NOT NULL,
    -- Empty where nobody knows whose it was.
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- As the certificate was called there.
    name TEXT NOT NULL,
    issuer TEXT NOT NULL,
    serial TEXT NOT NULL,
    address TEXT NOT NULL,
    -- The address as 32 hex digits (IPv4 as RFC 4291 2.5.5.2 maps it), so that networks are ranges; or empty.
    address_key TEXT NOT NULL,
    first_at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    times BIGINT NOT NULL
);

CREATE INDEX connections_likeness ON connections (likeness, number);
CREATE INDEX connections_device ON connections (domain, device_id, number);
CREATE INDEX connections_serial ON connections (serial, number);
CREATE INDEX connections_address ON connections (address_key, number);
CREATE INDEX connections_last ON connections (last_at);
CREATE INDEX connections_kind ON connections (kind, last_at);

-- Up to where each log of this machine was read. A file is known by its first line: names and inodes are reused.
CREATE TABLE log_positions (
    log TEXT PRIMARY KEY,
    beginning TEXT NOT NULL,
    position BIGINT NOT NULL
);

-- Batches of lines that were taken from elsewhere, so that none counts twice.
CREATE TABLE shipped_batches (
    shipper TEXT NOT NULL,
    batch TEXT NOT NULL,
    taken_at TEXT NOT NULL,
    PRIMARY KEY (shipper, batch)
);

CREATE INDEX shipped_batches_taken ON shipped_batches (taken_at);
