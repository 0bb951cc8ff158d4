-- Fleets of other authorities: their devices are let in by a list, until the first renewal moves each to ours.
CREATE TABLE adoptions (
    name TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    -- PEM: the roots and issuing CAs.
    authorities TEXT NOT NULL,
    -- PEM: the newest revocation lists that these made.
    crls TEXT NOT NULL,
    -- The first of them ends then: after it Mosquitto lets nobody of that CA in.
    crls_until TEXT NOT NULL,
    opened_at TEXT NOT NULL,
    closed_at TEXT
);

-- The certificates of such fleets, each with the device that it stands for.
CREATE TABLE adopted_leaves (
    -- Its name in `certificates`: "00" and 30 hex, so that it sorts before every serial of ours.
    record TEXT PRIMARY KEY,
    adoption TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- As the certificate itself says; empty where only the list has told of it.
    issuer TEXT NOT NULL DEFAULT '',
    serial TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT '',
    -- NULL while it has to show itself over HTTPS first.
    admitted_at TEXT,
    FOREIGN KEY (adoption) REFERENCES adoptions (name),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX adopted_by_adoption ON adopted_leaves (adoption, device_id);
CREATE INDEX adopted_by_device ON adopted_leaves (domain, device_id);
CREATE INDEX adopted_by_serial ON adopted_leaves (serial) WHERE serial <> '';
CREATE INDEX adopted_by_fingerprint ON adopted_leaves (fingerprint) WHERE fingerprint <> '';
