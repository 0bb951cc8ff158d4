-- Trust bundles, and which device holds which.

-- Replacements of roots and issuing CAs, and where each stands.
CREATE TABLE rollovers (
    number BIGINT PRIMARY KEY,
    -- A domain, "bootstrap" or "fleet".
    realm TEXT NOT NULL,
    -- "root", "issuing".
    kind TEXT NOT NULL,
    -- "requested", "prepared", "published", "switched", "retired", "abandoned".
    state TEXT NOT NULL,
    -- Folders of the CAs that stop and that take over, separated by spaces; a root first.
    gives_up TEXT NOT NULL,
    brings TEXT NOT NULL,
    -- Of the bundle that holds both roots; NULL where devices need to be told nothing.
    version BIGINT,
    started_at TEXT NOT NULL,
    -- When the state last changed.
    changed_at TEXT NOT NULL
);
CREATE INDEX rollovers_by_realm ON rollovers (realm, number);

-- Signed trust bundles, as devices get them. All of a rollover are signed when the roots' keys are at hand.
CREATE TABLE trust_bundles (
    realm TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- JSON (device_agent/wire/trust.py).
    body TEXT NOT NULL,
    -- NULL until devices are told; the highest published version is in force.
    published_at TEXT,
    PRIMARY KEY (realm, version)
);

-- Whom each device says that it trusts.
CREATE TABLE trust_held (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- SHA-256 of the domain's anchors that it holds, separated by spaces.
    anchors TEXT NOT NULL,
    -- Versions of the bundles that it holds, 0 for none: of its domain, and of the servers' realm.
    own_version BIGINT NOT NULL,
    server_version BIGINT NOT NULL,
    -- Why it did not take the last bundle, in one word; empty where it did.
    problem TEXT NOT NULL,
    reported_at TEXT NOT NULL,
    PRIMARY KEY (domain, device_id)
);

-- Who must be told something by a retained notice: what is wanted is posted once both numbers are equal.
CREATE TABLE notices (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    wanted BIGINT NOT NULL,
    posted BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (domain, device_id)
);
CREATE INDEX notices_to_post ON notices (domain, device_id) WHERE posted < wanted;

-- Certificates that must be renewed before their time, and when.
CREATE TABLE early_renewals (
    serial TEXT PRIMARY KEY,
    renew_after TEXT NOT NULL,
    -- The issuing CA that was given up.
    issuer TEXT NOT NULL
);
CREATE INDEX early_renewals_by_issuer ON early_renewals (issuer, serial);

-- Who still lives by a CA.
CREATE INDEX certificates_by_issuer ON certificates (issuer, serial)
    WHERE state IN ('issued', 'active', 'expired-grace', 'expired-unused');
