-- Factory stations as identities: what each may do, who works there, and what its journal tells.

-- Units a minute at most; NULL: as many as it can. The minute that is counted now, and how many it had.
ALTER TABLE stations ADD COLUMN rate_per_minute BIGINT;
ALTER TABLE stations ADD COLUMN rate_minute TEXT NOT NULL DEFAULT '';
ALTER TABLE stations ADD COLUMN rate_count BIGINT NOT NULL DEFAULT 0;
-- Which of its journals is taken: an operator lets a station begin a new one when its disk is lost.
ALTER TABLE stations ADD COLUMN journal BIGINT NOT NULL DEFAULT 1;
ALTER TABLE stations ADD COLUMN synced_at TEXT;
-- How far the station's clock is ahead of the server's, in seconds, at the last sync.
ALTER TABLE stations ADD COLUMN clock_ahead BIGINT;

-- Units at most, and those counted: enrolled by the station, or leased to it. NULL: no quota.
ALTER TABLE station_batches ADD COLUMN quota BIGINT;
ALTER TABLE station_batches ADD COLUMN used BIGINT NOT NULL DEFAULT 0;

-- Device ids that a station may give in a batch, "spring-0001..spring-5000"; none: any.
CREATE TABLE station_serials (
    station TEXT NOT NULL,
    batch TEXT NOT NULL,
    serials TEXT NOT NULL,
    PRIMARY KEY (station, batch, serials),
    FOREIGN KEY (station) REFERENCES stations (name)
);

-- When a station works, "mon,tue 06:00-14:00 Europe/Berlin"; none: always.
CREATE TABLE station_shifts (
    station TEXT NOT NULL,
    shift TEXT NOT NULL,
    PRIMARY KEY (station, shift),
    FOREIGN KEY (station) REFERENCES stations (name)
);

-- Who works at a station; the verifier checks a badge or PIN and tells none (scrypt).
CREATE TABLE line_operators (
    station TEXT NOT NULL,
    name TEXT NOT NULL,
    verifier TEXT NOT NULL,
    added_at TEXT NOT NULL,
    removed_at TEXT,
    PRIMARY KEY (station, name),
    FOREIGN KEY (station) REFERENCES stations (name)
);

-- The journals of stations as they were handed in and found right; the columns after `signature` repeat
-- what stands in `entry`, so that it can be asked for.
CREATE TABLE station_journal (
    station TEXT NOT NULL,
    journal BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hash TEXT NOT NULL,
    received_at TEXT NOT NULL,
    entry TEXT NOT NULL,
    signature BLOB NOT NULL,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    hardware TEXT NOT NULL DEFAULT '',
    device_id TEXT NOT NULL DEFAULT '',
    serial TEXT NOT NULL DEFAULT '',
    batch TEXT NOT NULL DEFAULT '',
    operator TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '',
    cause TEXT NOT NULL DEFAULT '',
    attempt BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (station, journal, number),
    FOREIGN KEY (station) REFERENCES stations (name)
);
CREATE INDEX station_journal_by_time ON station_journal (station, journal, at);
CREATE INDEX station_journal_by_kind ON station_journal (kind, station);
CREATE INDEX station_journal_by_hardware ON station_journal (hardware) WHERE hardware <> '';
CREATE INDEX station_journal_by_serial ON station_journal (serial) WHERE serial <> '';

-- What was found wrong with a station or what it handed in; each thing once.
CREATE TABLE station_findings (
    station TEXT NOT NULL,
    -- "gap", "rewritten", "forged", ..., "clock", "lease", "offline".
    kind TEXT NOT NULL,
    -- What it is about: an entry's number, a serial, a device id.
    about TEXT NOT NULL,
    detail TEXT NOT NULL,
    found_at TEXT NOT NULL,
    PRIMARY KEY (station, kind, about),
    FOREIGN KEY (station) REFERENCES stations (name)
);

-- The roots under which stations sign off line, apart from the domains' own; the key is in the home.
CREATE TABLE station_roots (
    issuer TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    certificate BLOB NOT NULL,
    made_at TEXT NOT NULL
);

-- What a station may sign off line: `count` numbers from `first`, under a CA of its own.
CREATE TABLE station_leases (
    lease TEXT PRIMARY KEY,
    station TEXT NOT NULL,
    domain TEXT NOT NULL,
    batch TEXT NOT NULL,
    first BIGINT NOT NULL,
    count BIGINT NOT NULL,
    issued_at TEXT NOT NULL,
    not_after TEXT NOT NULL,
    -- The station's CA: its key identifier, its certificate, and its (empty) revocation list once that came.
    issuer TEXT NOT NULL UNIQUE,
    root TEXT NOT NULL,
    -- SHA-256 of the root's certificate.
    anchor TEXT NOT NULL,
    certificate BLOB NOT NULL,
    crl BLOB,
    closed_at TEXT,
    FOREIGN KEY (station) REFERENCES stations (name)
);

-- Numbers of leases that were used, each once, by which certificate.
CREATE TABLE station_lease_uses (
    lease TEXT NOT NULL,
    number BIGINT NOT NULL,
    serial TEXT NOT NULL UNIQUE,
    PRIMARY KEY (lease, number),
    FOREIGN KEY (lease) REFERENCES station_leases (lease)
);
