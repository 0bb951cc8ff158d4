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

-- Second parties that witness the trail, and what each has cosigned last.
CREATE TABLE audit_witnesses (
    -- As the configuration calls it.
    name TEXT PRIMARY KEY,
    -- Entries of the trail that it knows; 0: none.
    size BIGINT NOT NULL,
    -- The line below the checkpoint, as C2SP tlog-cosignature has it; NULL: none yet.
    cosignature TEXT,
    cosigned_at TEXT,
    tried_at TEXT NOT NULL,
    -- Why the last try failed; empty where it did not.
    problem TEXT NOT NULL
);
