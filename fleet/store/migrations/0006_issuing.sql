-- What profiles are chosen, what they ruled, and which keys are certified no more.

-- A profile of the domain in fleet.toml; empty where the batch, or else the domain, says so.
ALTER TABLE devices ADD COLUMN profile TEXT NOT NULL DEFAULT '';
ALTER TABLE batches ADD COLUMN profile TEXT NOT NULL DEFAULT '';
CREATE INDEX devices_by_profile ON devices (domain, profile) WHERE profile <> '';

-- How well it was proved who the device is, when its lineage began: "none", "claim", "code", "approved",
-- "manufacturer", "hardware".
ALTER TABLE devices ADD COLUMN assurance TEXT NOT NULL DEFAULT 'none';
UPDATE devices SET assurance = COALESCE((
    SELECT CASE k.kind WHEN 'claim' THEN 'claim' WHEN 'code' THEN 'code' ELSE 'approved' END
    FROM certificates c JOIN codes k ON k.code_id = c.code_id
    WHERE c.purpose = 'device' AND c.domain = devices.domain AND c.device_id = devices.device_id
    ORDER BY c.serial DESC LIMIT 1
), 'none');

-- Who blocked a key, as the audit trail names him.
ALTER TABLE blocked_keys ADD COLUMN blocked_by TEXT NOT NULL DEFAULT '';
INSERT INTO blocked_keys (key_hash, reason, blocked_at, blocked_by)
SELECT key_hash, 'its certificate was revoked as compromised', MIN(changed_at), 'server'
FROM certificates WHERE reason = 'keyCompromise' AND key_hash <> '' GROUP BY key_hash
ON CONFLICT (key_hash) DO NOTHING;

-- What was asked of us, so that changed profiles can be tried on it. The oldest go.
CREATE TABLE requests (
    number BIGINT PRIMARY KEY,
    at TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- "granted", "waits", "refused".
    outcome TEXT NOT NULL,
    -- Why it was refused: a problem of the wire, and in words.
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- What the profiles ruled on, as JSON; NULL where something else decided.
    facts TEXT
);
CREATE INDEX requests_by_outcome ON requests (outcome, number);
CREATE INDEX requests_by_device ON requests (domain, device_id);
