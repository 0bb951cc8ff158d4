-- What devices proved of themselves, and who was told to ask first.

-- What a manufacturer's list says that a device must come with.
CREATE TABLE listed (
    domain TEXT NOT NULL,
    -- "key", "certificate", "serial", "ek".
    kind TEXT NOT NULL,
    -- SHA-256 of the public key, of the certificate, or of a TPM's endorsement key, each in DER; for "serial",
    -- the manufacturer's name in fleet.toml, a colon, and the serial number of its certificate in hex.
    value TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- Who vouches for the list: its signer's certificate by its SHA-256, or the operator who handed it in.
    source TEXT NOT NULL,
    listed_at TEXT NOT NULL,
    PRIMARY KEY (domain, kind, value),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX listed_by_device ON listed (domain, device_id);

-- What admitted a key of a device, and how well it was proved.
CREATE TABLE proofs (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    -- As in "codes".
    kind TEXT NOT NULL,
    -- "none", "claim", "code", "approved", "manufacturer", "hardware".
    assurance TEXT NOT NULL,
    -- In words: by which certificate, TPM, list or person.
    evidence TEXT NOT NULL,
    proved_at TEXT NOT NULL,
    PRIMARY KEY (domain, device_id, key_hash),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);

-- What else is known of a device: template parameters, what a webhook said.
CREATE TABLE device_attributes (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    -- "template", "webhook", "operator:<name>".
    source TEXT NOT NULL,
    PRIMARY KEY (domain, device_id, name),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);

-- What the request has proved so far, as in "proofs".
ALTER TABLE waiting ADD COLUMN kind TEXT NOT NULL DEFAULT 'claim';
ALTER TABLE waiting ADD COLUMN assurance TEXT NOT NULL DEFAULT 'claim';
ALTER TABLE waiting ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
-- Why that does not do, in words.
ALTER TABLE waiting ADD COLUMN reason TEXT NOT NULL DEFAULT '';
-- NULL while nobody has decided. A request that was rejected stays, so that its key is refused.
ALTER TABLE waiting ADD COLUMN rejected_at TEXT;
ALTER TABLE waiting ADD COLUMN rejected_by TEXT;
CREATE INDEX waiting_by_code ON waiting (short_code);
CREATE INDEX waiting_by_time ON waiting (asked_at);
