-- Certificates that wait for their thing to be registered.

-- The rules by which AWS clients register things.
CREATE TABLE templates (
    name TEXT PRIMARY KEY,
    -- As it was handed in, TOML.
    text TEXT NOT NULL,
    added_at TEXT NOT NULL,
    added_by TEXT NOT NULL
);

-- Certificates that were handed out on AWS topics: each from its intent on. What is registered stands in
-- "certificates" from then on; what waits or has lapsed stands here alone, and no broker admits it.
CREATE TABLE provisioned (
    serial TEXT PRIMARY KEY,
    -- Whom it names, and nobody has granted that yet.
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    -- The claim certificate behind the request; nobody else can register it.
    claim_serial TEXT NOT NULL,
    issuer TEXT NOT NULL,
    -- SHA-256 of the trust anchor that its chain ends in.
    anchor TEXT NOT NULL,
    profile TEXT NOT NULL,
    -- "pending", "registered", "lapsed".
    state TEXT NOT NULL,
    -- SHA-256 of the ownership token; NULL once it was used.
    token_hash TEXT UNIQUE,
    created_at TEXT NOT NULL,
    -- The end of the token; what is pending then lapses.
    expires_at TEXT NOT NULL,
    -- NULL until it was signed, and gone when it is registered or has lapsed.
    fingerprint TEXT,
    not_before TEXT,
    not_after TEXT,
    der BLOB
);
CREATE INDEX provisioned_by_key ON provisioned (key_hash, serial);
CREATE INDEX provisioned_by_claim ON provisioned (claim_serial) WHERE state = 'pending';
CREATE INDEX provisioned_lapsing ON provisioned (expires_at, serial) WHERE state = 'pending';
