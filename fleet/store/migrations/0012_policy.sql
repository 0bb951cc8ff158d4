-- What certificates may do, as operators wrote it, and programs of the fleet's owner that read what devices tell.

-- Each access policy that was in force; the one with the highest number is.
CREATE TABLE access_policies (
    number BIGINT PRIMARY KEY,
    text TEXT NOT NULL,
    -- SHA-256 of the text.
    digest TEXT NOT NULL,
    -- What it asks about certificates, as a JSON list: "group", "attr.site".
    asks TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    -- Who put it in force, as in audit_entries.
    actor TEXT NOT NULL
);

-- Certificates that the policy in force tells apart, by what it asks about them, as canonical JSON.
CREATE TABLE access_classes (
    class BIGINT PRIMARY KEY,
    facts TEXT NOT NULL UNIQUE
);
INSERT INTO access_classes (class, facts) VALUES (1, '{}');
ALTER TABLE certificates ADD COLUMN access_class BIGINT NOT NULL DEFAULT 1;

-- Programs with a certificate under the CA of services, and the topics that each may read and write.
CREATE TABLE backends (
    name TEXT PRIMARY KEY,
    -- Topic filters, one a line.
    reads TEXT NOT NULL,
    writes TEXT NOT NULL,
    added_at TEXT NOT NULL,
    revoked_at TEXT
);

-- A sample of what brokers allowed and denied: of each connection each topic once, the oldest fall out.
CREATE TABLE topic_decisions (
    -- As brokers call it: "<domain>:<id>" for devices.
    name TEXT NOT NULL,
    -- "publish" or "subscribe".
    action TEXT NOT NULL,
    topic TEXT NOT NULL,
    allowed BIGINT NOT NULL,
    times BIGINT NOT NULL,
    first_at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    PRIMARY KEY (name, action, topic, allowed)
);
CREATE INDEX topic_decisions_by_age ON topic_decisions (last_at);

-- A certificate whose class changed is removed and added in one change.
DROP TABLE allowlist_changes;
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
    access_class BIGINT NOT NULL,
    PRIMARY KEY (sequence, serial, change)
);

-- The fleet's own service alone is "service" to brokers; class 0 is of those that no policy speaks of.
DROP VIEW allowlist;
CREATE VIEW allowlist AS
SELECT c.issuer, c.serial, c.fingerprint, c.name, c.not_after, c.domain, c.device_id, c.batch,
    CASE WHEN c.purpose = 'service' AND c.name <> 'fleet-server' THEN 'backend' ELSE c.purpose END AS purpose,
    CASE WHEN c.purpose = 'device' OR (c.purpose = 'service' AND c.name <> 'fleet-server')
        THEN c.access_class ELSE 0 END AS access_class
FROM certificates c
LEFT JOIN devices d ON c.purpose = 'device' AND d.domain = c.domain AND d.device_id = c.device_id
LEFT JOIN batches b ON c.purpose = 'claim' AND b.domain = c.domain AND b.name = c.batch
LEFT JOIN backends s ON c.purpose = 'service' AND s.name = c.name
WHERE c.state IN ('issued', 'active')
    AND c.fingerprint IS NOT NULL
    AND (
        (c.purpose = 'service' AND (c.name = 'fleet-server' OR (s.name IS NOT NULL AND s.revoked_at IS NULL)))
        OR (c.purpose = 'device' AND d.suspended = 0 AND d.revoked = 0 AND d.alarm < 2)
        OR (c.purpose = 'claim' AND b.closed_at IS NULL)
    );
