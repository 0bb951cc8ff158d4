-- What operators know about devices: groups, tags, owners; and what became of their hardware.

-- Who a device belongs to, and where he is told of it.
CREATE TABLE owners (
    name TEXT PRIMARY KEY,
    -- In words: a company, a department, a person.
    about TEXT NOT NULL DEFAULT '',
    added_at TEXT NOT NULL,
    -- NULL while devices may be given to him.
    removed_at TEXT
);
CREATE TABLE owner_contacts (
    owner TEXT NOT NULL,
    -- Mail addresses, in the order in which they were given.
    position BIGINT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (owner, address),
    FOREIGN KEY (owner) REFERENCES owners (name)
);

-- Empty where nobody has said.
ALTER TABLE devices ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN model TEXT NOT NULL DEFAULT '';
-- Of the agent, as the device told it last.
ALTER TABLE devices ADD COLUMN agent_version TEXT NOT NULL DEFAULT '';
CREATE INDEX devices_of_owner ON devices (owner, domain, device_id) WHERE owner <> '';
CREATE INDEX devices_of_model ON devices (model, domain, device_id) WHERE model <> '';

-- Named sets of devices: those that were put in, or those that a query finds.
CREATE TABLE device_groups (
    name TEXT PRIMARY KEY,
    -- NULL: its members stand in group_members.
    query TEXT,
    note TEXT NOT NULL DEFAULT '',
    made_at TEXT NOT NULL
);
CREATE TABLE group_members (
    name TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    PRIMARY KEY (name, domain, device_id),
    FOREIGN KEY (name) REFERENCES device_groups (name),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX groups_of_device ON group_members (domain, device_id);

-- Words that operators stick on devices.
CREATE TABLE device_tags (
    tag TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    PRIMARY KEY (tag, domain, device_id),
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX tags_of_device ON device_tags (domain, device_id);

-- Searches walk an index in the order of a list, so that a page costs what it shows.
CREATE INDEX attributes_by_value ON device_attributes (name, value, domain, device_id);
CREATE INDEX devices_in_batch ON devices (batch, domain, device_id) WHERE batch IS NOT NULL;
CREATE INDEX station_units_of_device ON station_units (domain, device_id);
CREATE INDEX devices_retired ON devices (domain, device_id) WHERE retired_at IS NOT NULL;
CREATE INDEX devices_revoked ON devices (domain, device_id) WHERE revoked = 1;
CREATE INDEX devices_without ON devices (domain, device_id) WHERE current_serial IS NULL;
CREATE INDEX certificates_first ON certificates (created_at, domain, device_id)
    WHERE purpose = 'device' AND parent IS NULL;
CREATE INDEX certificates_expired ON certificates (domain, device_id, serial)
    WHERE state IN ('expired-unused', 'expired-grace', 'expired-final');

-- Devices that are on their way: to another domain, to other hardware, to the workshop and back.
CREATE TABLE device_moves (
    number BIGINT PRIMARY KEY,
    -- "transfer", "replacement", "return".
    kind TEXT NOT NULL,
    -- "held", "away", "waiting", "done", "scrapped", "cancelled".
    state TEXT NOT NULL,
    domain TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- Where it goes: another domain, or the same one.
    to_domain TEXT NOT NULL,
    to_device_id TEXT NOT NULL,
    -- The newest certificate that the new lineage must be newer than; empty: it has none before.
    above_serial TEXT NOT NULL DEFAULT '',
    started_at TEXT NOT NULL,
    started_by TEXT NOT NULL,
    -- When the state last changed.
    changed_at TEXT NOT NULL,
    FOREIGN KEY (domain, device_id) REFERENCES devices (domain, device_id),
    FOREIGN KEY (to_domain, to_device_id) REFERENCES devices (domain, device_id)
);
CREATE INDEX device_moves_from ON device_moves (domain, device_id, number);
CREATE INDEX device_moves_to ON device_moves (to_domain, to_device_id, number);
CREATE INDEX device_moves_open ON device_moves (number) WHERE state IN ('held', 'away', 'waiting');
