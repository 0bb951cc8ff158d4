-- Acts that need a second operator, and people's second factors.

CREATE TABLE proposals (
    proposal TEXT PRIMARY KEY,
    -- What is done: revoke, suspend, ...
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The role that whoever approves needs.
    role TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    -- Which devices, in the words of whoever proposed it.
    selection TEXT NOT NULL,
    -- What the act needs to be done, a JSON object of texts.
    parameters TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- Why it needs a second person.
    because TEXT NOT NULL,
    devices BIGINT NOT NULL,
    -- All devices of the domains that it touches.
    total BIGINT NOT NULL,
    -- SHA-256 over the names of the devices that were shown.
    digest TEXT NOT NULL,
    -- Those names, zlib over lines; once approved, of those devices that it is done to.
    names BLOB NOT NULL,
    proposed_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    decided_by TEXT,
    decided_at TEXT,
    -- What was done in the end, or why it could not be.
    outcome TEXT NOT NULL DEFAULT ''
);
CREATE INDEX proposals_by_state ON proposals (state, proposed_at);

-- The time-based one-time codes (RFC 6238) of operators, and of the owner of the home, `local`.
CREATE TABLE second_factors (
    operator TEXT PRIMARY KEY,
    -- The shared secret, AES-256-GCM; the key is a file of the home, never in the database.
    sealed BLOB NOT NULL,
    -- The step of the last code that counted: none counts twice.
    last_step BIGINT NOT NULL,
    -- Wrong codes in a row.
    wrong BIGINT NOT NULL,
    made_at TEXT NOT NULL,
    -- When its first code was shown; NULL: it counts for nothing yet.
    confirmed_at TEXT
);

-- Operators without a certificate who ask for one, each with a key of his own.
CREATE TABLE readmissions (
    readmission TEXT PRIMARY KEY,
    operator TEXT NOT NULL,
    state TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    -- The request, PEM (RFC 2986).
    csr TEXT NOT NULL,
    -- What the person reads out to those who vouch; made of the key.
    spoken_code TEXT NOT NULL,
    -- How he proved more than his word: "totp", or empty.
    proved TEXT NOT NULL,
    address TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    decided_at TEXT,
    -- Of the certificate that he got.
    serial TEXT,
    FOREIGN KEY (operator) REFERENCES operators (name)
);
CREATE INDEX readmissions_by_operator ON readmissions (operator, state);
CREATE INDEX readmissions_by_state ON readmissions (state, expires_at);

CREATE TABLE readmission_voices (
    readmission TEXT NOT NULL,
    -- An operator, or `local`: the owner of the home.
    voice TEXT NOT NULL,
    given_at TEXT NOT NULL,
    PRIMARY KEY (readmission, voice),
    FOREIGN KEY (readmission) REFERENCES readmissions (readmission)
);

-- Who added an operator, by name; empty for those of before. What somebody adds does not count beside him.
ALTER TABLE operators ADD COLUMN added_by TEXT NOT NULL DEFAULT '';
