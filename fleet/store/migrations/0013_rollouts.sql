-- Changes that are carried out over a fleet in waves.

-- A rollout: its plan as it was written (TOML), and where it stands.
CREATE TABLE rollouts (
    number BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- "rekey", "profile", "ca", "trust", "configuration".
    kind TEXT NOT NULL,
    -- "drafted" while its devices are being written; then "planned", "running", "paused", "halted",
    -- "rolling-back", "rolled-back", "done", "abandoned".
    state TEXT NOT NULL,
    -- Grows with each change of state: whoever acts on an older one is refused.
    version BIGINT NOT NULL,
    plan TEXT NOT NULL,
    -- What the target was resolved to: an issuing CA's key identifier, the version of a trust bundle, or the
    -- number of a configuration.
    target TEXT NOT NULL DEFAULT '',
    -- The wave that is under way, from 1; 0 before the start.
    wave BIGINT NOT NULL DEFAULT 0,
    planned_by TEXT NOT NULL,
    planned_at TEXT NOT NULL,
    started_at TEXT,
    changed_by TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    -- Why it stands where it stands.
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX rollouts_open ON rollouts (number)
    WHERE state IN ('drafted', 'planned', 'running', 'paused', 'halted', 'rolling-back');

-- A wave of a rollout. The counts are kept with each change of a device: nothing is counted to judge a gate.
CREATE TABLE rollout_waves (
    rollout BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    name TEXT NOT NULL,
    waiting BIGINT NOT NULL DEFAULT 0,
    told BIGINT NOT NULL DEFAULT 0,
    updated BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    absent BIGINT NOT NULL DEFAULT 0,
    out BIGINT NOT NULL DEFAULT 0,
    undone BIGINT NOT NULL DEFAULT 0,
    -- Failures that an operator has gone on in spite of.
    forgiven BIGINT NOT NULL DEFAULT 0,
    began_at TEXT,
    -- When all had answered, and enough were well.
    settled_at TEXT,
    passed_at TEXT,
    PRIMARY KEY (rollout, wave),
    FOREIGN KEY (rollout) REFERENCES rollouts (number)
);

-- A device in a rollout.
CREATE TABLE rollout_devices (
    rollout BIGINT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    wave BIGINT NOT NULL,
    -- "waiting", "told", "updated", "failed", "absent", "out", "undone".
    state TEXT NOT NULL,
    -- Its place among all devices, 16 hex digits of SHA-256 over the plan's salt and its name.
    place TEXT NOT NULL,
    -- The certificate that was current when it was told.
    serial TEXT NOT NULL DEFAULT '',
    -- What the change has replaced, for a roll-back: the profile of its own, an issuing CA, or settings.
    was TEXT NOT NULL DEFAULT '',
    told_at TEXT,
    changed_at TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    -- 1: something became known of it that was not judged yet.
    stirred BIGINT NOT NULL DEFAULT 0,
    -- What it was said to have gone wrong with.
    trouble TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (rollout, domain, device_id),
    FOREIGN KEY (rollout) REFERENCES rollouts (number),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX rollout_devices_by_device ON rollout_devices (domain, device_id);
CREATE INDEX rollout_devices_in_turn ON rollout_devices (rollout, wave, state, place);
CREATE INDEX rollout_devices_told ON rollout_devices (rollout, told_at) WHERE state = 'told';
CREATE INDEX rollout_devices_stirred ON rollout_devices (rollout, domain, device_id) WHERE stirred = 1;
CREATE INDEX rollout_devices_by_state ON rollout_devices (rollout, state, domain, device_id);

-- The issuing CA that signs for a device from now on, where it is in force; else any of its domain does.
CREATE TABLE issuer_choices (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    PRIMARY KEY (domain, device_id),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);

-- A trust bundle that a device is told of before all are.
CREATE TABLE bundle_choices (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    realm TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (domain, device_id, realm),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);

-- The settings that a device is told, as a JSON object, and the number of those that it says it has.
CREATE TABLE device_configurations (
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    settings TEXT NOT NULL,
    held BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (domain, device_id),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);

-- The rollout that made a certificate due early; NULL where its CA was given up.
ALTER TABLE early_renewals ADD COLUMN rollout BIGINT;
