-- What is kept how long, and who witnesses the trail.

-- Parts of the audit trail that were written to files: always from 0 on, without gaps.
CREATE TABLE audit_archives (
    -- Numbers of entries, both included.
    first BIGINT PRIMARY KEY,
    last BIGINT NOT NULL UNIQUE,
    -- Within the home's folder of archives.
    file TEXT NOT NULL,
    -- SHA-256 of the file.
    digest TEXT NOT NULL,
    archived_at TEXT NOT NULL
);

-- Of entries that were archived, the leaf hash alone stays: every proof goes on without their words.
CREATE TABLE audit_archived (
    number BIGINT PRIMARY KEY,
    leaf_hash TEXT NOT NULL
);
