-- Roots and issuing CAs, and where each stands in its life.
CREATE TABLE authorities (
    -- Where its files are, below the home's ca/: "<realm>", "<realm>/<purpose>-<number>".
    folder TEXT PRIMARY KEY,
    -- Subject key identifier; of one that waits for its certificate the one that its key would have.
    issuer TEXT NOT NULL UNIQUE,
    -- A domain, "bootstrap" or "fleet".
    realm TEXT NOT NULL,
    -- Of its leaves; "authority" for a root.
    purpose TEXT NOT NULL,
    -- "requested", "withdrawn", "standby", "active", "retiring", "retired", "compromised".
    state TEXT NOT NULL,
    -- "file", "token", "elsewhere".
    key_kind TEXT NOT NULL,
    -- How many leaves it should have at a time; NULL: as many as there are.
    room BIGINT,
    added_at TEXT NOT NULL,
    -- When the state last changed.
    changed_at TEXT NOT NULL
);
CREATE INDEX authorities_by_purpose ON authorities (realm, purpose);

-- How many certificates of an issuing CA end on which day: what is left of its room is a short sum.
CREATE TABLE authority_leaves (
    issuer TEXT NOT NULL,
    -- "2026-01-31"; what has ended is left out of the sum.
    ends_on TEXT NOT NULL,
    leaves BIGINT NOT NULL,
    PRIMARY KEY (issuer, ends_on)
);
INSERT INTO authority_leaves (issuer, ends_on, leaves)
SELECT issuer, substr(not_after, 1, 10), COUNT(*) FROM certificates
WHERE not_after IS NOT NULL AND purpose NOT IN ('signer', 'authority')
GROUP BY issuer, substr(not_after, 1, 10);
