-- The fleet's records. Times are RFC 3339 text in UTC, whole seconds ("2026-01-31T08:00:00Z"), so that they
-- sort; hashes, serials and issuers are lower-case hex; flags are 0 or 1. SQL for SQLite and PostgreSQL alike.

-- What the fleet is called, and single facts about it.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Numbers that only grow: "allowlist", and "crl:<issuer>" for each issuing CA.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- A batch of devices in a domain, and how often its claim certificates may be used.
CREATE TABLE batches (
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    -- NULL: as often as there are ids registered for it. 0: its certificate grants nothing by itself.
    uses_allowed BIGINT,
    uses BIGINT NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    -- The kill switch: when it was closed, its claim certificates stopped being admitted.
    closed_at TEXT,
    PRIMARY KEY (domain, name)
);

-- One device in one security domain.
CREATE TABLE devices (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- "agent" says confirm and done, "plain" does not.
    kind TEXT NOT NULL,
    batch TEXT,
    hardware TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    current_serial TEXT,
    revoked BIGINT NOT NULL DEFAULT 0,
    suspended BIGINT NOT NULL DEFAULT 0,
    -- 0 none, 1 rollback or clone (renewals frozen), 2 clone (suspended as well).
    alarm BIGINT NOT NULL DEFAULT 0,
    code_conflict BIGINT NOT NULL DEFAULT 0,
    -- Highest serial when an alarm was resolved: older evidence no longer counts.
    base_serial TEXT,
    -- The operator said that the same device goes on: a superseded certificate may renew once more.
    readmit BIGINT NOT NULL DEFAULT 0,
    -- What raised the alarm, where it was a refused handshake: its certificate, and the broker's stamp.
    stale_serial TEXT,
    stale_stamp BIGINT,
    registered_at TEXT NOT NULL,
    -- When a suspension last ended: the grace of an expired certificate starts again there.
    resumed_at TEXT,
    retired_at TEXT,
    last_seen_at TEXT,
    PRIMARY KEY (domain, device_id),
    FOREIGN KEY (domain, batch) REFERENCES batches (domain, name)
);
CREATE INDEX devices_by_id ON devices (device_id, domain);
CREATE INDEX devices_by_batch ON devices (domain, batch, device_id) WHERE batch IS NOT NULL;
CREATE INDEX devices_in_trouble ON devices (domain, device_id)
    WHERE suspended = 1 OR alarm > 0 OR code_conflict = 1;

-- What admits a first certificate, once: a one-time code, or any other grant for one device and one key.
CREATE TABLE codes (
    code_id TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- "code", "claim", "approval", "station".
    kind TEXT NOT NULL,
    -- Who or what granted it: an operator, a claim certificate's serial, a station.
    source TEXT NOT NULL DEFAULT '',
    -- SHA-256 of the code; the code itself is nowhere.
    code_hash TEXT UNIQUE,
    -- The only key that it admits; NULL until one was bound.
    key_hash TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    closed_at TEXT,
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX codes_by_device ON codes (domain, device_id);

-- Every certificate of ours, of any purpose; a row without a fingerprint is an intent.
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    -- "device", "claim", "server", "service", "operator", "station", "authority", "signer".
    purpose TEXT NOT NULL,
    -- What a broker calls it: "<domain>:<id>" for devices, else the bare name.
    name TEXT NOT NULL,
    domain TEXT NOT NULL DEFAULT '',
    device_id TEXT NOT NULL DEFAULT '',
    batch TEXT,
    key_hash TEXT NOT NULL,
    -- "void", "issued", "active", "expired-unused", "expired-grace", "expired-final", "superseded",
    -- "superseded-acked", "dead", "revoked".
    state TEXT NOT NULL,
    -- Which key since the parent, counted by the device.
    attempt BIGINT NOT NULL DEFAULT 0,
    -- The serial that it was renewed from, or the code that it was enrolled with.
    parent TEXT,
    code_id TEXT,
    -- SHA-256 of the trust anchor that its chain ends in.
    anchor TEXT NOT NULL DEFAULT '',
    -- Broker stamps: when the device first said that it dropped older slots, and after it was issued.
    done_stamp BIGINT,
    issued_stamp BIGINT,
    profile TEXT NOT NULL DEFAULT '',
    -- Subject key identifier of the issuing CA, known from the intent on.
    issuer TEXT NOT NULL DEFAULT '',
    -- SHA-256 of the DER.
    fingerprint TEXT UNIQUE,
    not_before TEXT,
    not_after TEXT,
    der BLOB,
    created_at TEXT NOT NULL,
    -- When the state last changed.
    changed_at TEXT NOT NULL,
    -- A CRLReason by its name in RFC 5280 5.3.1.
    reason TEXT
);
CREATE INDEX certificates_by_device ON certificates (domain, device_id, serial);
CREATE INDEX certificates_by_name ON certificates (name, serial);
CREATE INDEX certificates_by_key ON certificates (key_hash);
CREATE INDEX certificates_by_parent ON certificates (parent) WHERE parent IS NOT NULL;
CREATE INDEX certificates_by_batch ON certificates (domain, batch) WHERE batch IS NOT NULL;
CREATE INDEX certificates_expiring ON certificates (not_after, serial) WHERE state IN ('issued', 'active');
CREATE INDEX certificates_in_grace ON certificates (not_after, serial)
    WHERE state IN ('expired-grace', 'expired-unused');
CREATE INDEX certificates_unconfirmed ON certificates (changed_at, serial) WHERE state = 'issued';
CREATE INDEX certificates_intended ON certificates (serial) WHERE state = 'void';

-- What was taken back, each with its CRL entry encoded once (RFC 5280 5.1.2.6).
CREATE TABLE revocations (
    issuer TEXT NOT NULL,
    serial TEXT NOT NULL,
    revoked_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- 0 where a renewal or a time-out ended it: such serials are not on the list given to the broker.
    for_cause BIGINT NOT NULL,
    -- The end of the certificate: the entry leaves the list after it. NULL where it was lost: it stays.
    not_after TEXT,
    entry BLOB NOT NULL,
    PRIMARY KEY (issuer, serial)
);

-- The newest certificate revocation list of each issuing CA.
CREATE TABLE crls (
    issuer TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    this_update TEXT NOT NULL,
    next_update TEXT NOT NULL,
    der BLOB NOT NULL
);

-- Keys that may never be certified, beside those of revoked certificates.
CREATE TABLE blocked_keys (
    key_hash TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    blocked_at TEXT NOT NULL
);

-- Devices that asked with a claim certificate, and are not registered for its batch.
CREATE TABLE waiting (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    -- Shown on the device and to the operator, so that people can compare.
    short_code TEXT NOT NULL,
    claim_serial TEXT NOT NULL,
    address TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    PRIMARY KEY (domain, device_id, key_hash)
);
CREATE INDEX waiting_by_claim ON waiting (claim_serial);

-- Factory stations, and the batches that each may enroll.
CREATE TABLE stations (
    name TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    added_at TEXT NOT NULL,
    closed_at TEXT
);
CREATE TABLE station_batches (
    station TEXT NOT NULL,
    domain TEXT NOT NULL,
    batch TEXT NOT NULL,
    PRIMARY KEY (station, domain, batch),
    FOREIGN KEY (station) REFERENCES stations (name),
    FOREIGN KEY (domain, batch) REFERENCES batches (domain, name)
);

-- What a station did with a unit; the newest outcome counts.
CREATE TABLE station_units (
    station TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- "enrolled", "committed", "quarantined".
    outcome TEXT NOT NULL,
    serial TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    reported_at TEXT NOT NULL,
    PRIMARY KEY (station, domain, device_id),
    FOREIGN KEY (station) REFERENCES stations (name)
);

-- People who may act; their certificates are of purpose "operator" under the same name.
CREATE TABLE operators (
    name TEXT PRIMARY KEY,
    -- "viewer", "operator", "security".
    role TEXT NOT NULL,
    added_at TEXT NOT NULL,
    removed_at TEXT
);

-- What the brokers admit, as a function of the records: (issuer, serial, fingerprint) are all compared.
CREATE VIEW allowlist AS
SELECT c.issuer, c.serial, c.fingerprint, c.name, c.purpose, c.not_after, c.domain, c.device_id, c.batch
FROM certificates c
LEFT JOIN devices d ON c.purpose = 'device' AND d.domain = c.domain AND d.device_id = c.device_id
LEFT JOIN batches b ON c.purpose = 'claim' AND b.domain = c.domain AND b.name = c.batch
WHERE c.state IN ('issued', 'active')
    AND c.fingerprint IS NOT NULL
    AND (
        c.purpose = 'service'
        OR (c.purpose = 'device' AND d.suspended = 0 AND d.revoked = 0 AND d.alarm < 2)
        OR (c.purpose = 'claim' AND b.closed_at IS NULL)
    );

-- The differences that commits made to the allowlist; sequence numbers have no gaps.
CREATE TABLE allowlist_changes (
    sequence BIGINT NOT NULL,
    serial TEXT NOT NULL,
    -- "add" or "remove".
    change TEXT NOT NULL,
    issuer TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    not_after TEXT NOT NULL,
    PRIMARY KEY (sequence, serial)
);

-- Who did what, when and why. Entries are numbered without gaps and never change: a Merkle tree
-- (RFC 9162 2.1) over them is signed with each commit.
CREATE TABLE audit_entries (
    number BIGINT PRIMARY KEY,
    at TEXT NOT NULL,
    -- "<noun>.<verb>".
    action TEXT NOT NULL,
    -- "operator:<name>", "device:<domain>:<id>", "station:<name>", "server".
    actor TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    serial TEXT NOT NULL,
    leaf_hash TEXT NOT NULL
);
CREATE INDEX audit_by_device ON audit_entries (domain, device_id, number);
CREATE INDEX audit_by_serial ON audit_entries (serial, number) WHERE serial <> '';
CREATE INDEX audit_by_actor ON audit_entries (actor, number);
CREATE TABLE audit_details (
    number BIGINT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (number, position),
    FOREIGN KEY (number) REFERENCES audit_entries (number)
);

-- The roots of the complete subtrees, one for each bit of the number of entries.
CREATE TABLE audit_peaks (
    level BIGINT PRIMARY KEY,
    hash TEXT NOT NULL
);

-- Signed tree heads: ECDSA over the text that fleet/core/audit.py builds.
CREATE TABLE audit_heads (
    size BIGINT PRIMARY KEY,
    root TEXT NOT NULL,
    at TEXT NOT NULL,
    signature BLOB NOT NULL
);
