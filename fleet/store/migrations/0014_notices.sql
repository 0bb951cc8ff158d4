-- What people are told, and whether it has reached them. (What devices are told stands in `notices`.)

-- How far each rule of fleet.toml has told of what is wrong; a row is gone when it is over.
CREATE TABLE notification_subjects (
    rule TEXT NOT NULL,
    -- "expiry.leaf", "device.alarm", ...
    matter TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Thresholds that are behind it, or how many there are: the highest since it arose.
    level BIGINT NOT NULL,
    -- When it was last seen to happen, for what happens and does not stand.
    seen_at TEXT NOT NULL,
    domain TEXT NOT NULL DEFAULT '',
    device_id TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (rule, matter, subject)
);

-- One message to one audience, which may tell of many subjects.
CREATE TABLE notifications (
    number BIGINT PRIMARY KEY,
    -- By which receivers know what they have already.
    id TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    matter TEXT NOT NULL,
    -- The owner whose devices it is about; empty: all.
    audience TEXT NOT NULL DEFAULT '',
    -- 0 information, 1 warning, 2 critical.
    severity BIGINT NOT NULL,
    items BIGINT NOT NULL,
    made_at TEXT NOT NULL,
    -- How many escalations were taken.
    stage BIGINT NOT NULL DEFAULT 0,
    acked_at TEXT,
    acked_by TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX notifications_open ON notifications (number) WHERE acked_at IS NULL;

-- What is told of one subject.
CREATE TABLE notification_items (
    number BIGINT PRIMARY KEY,
    rule TEXT NOT NULL,
    matter TEXT NOT NULL,
    audience TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL,
    -- "arises", "worsens", "clears".
    change TEXT NOT NULL,
    severity BIGINT NOT NULL,
    text TEXT NOT NULL,
    at TEXT NOT NULL,
    -- NULL: it is gathered still.
    notification BIGINT,
    FOREIGN KEY (notification) REFERENCES notifications (number)
);
CREATE INDEX notification_items_waiting ON notification_items (rule, matter, audience, number)
    WHERE notification IS NULL;
CREATE INDEX notification_items_told ON notification_items (notification, number)
    WHERE notification IS NOT NULL;

-- A notification on its way to one receiver: each of them gets it once.
CREATE TABLE notification_deliveries (
    notification BIGINT NOT NULL,
    channel TEXT NOT NULL,
    -- The mailbox; empty where the channel has but one receiver.
    address TEXT NOT NULL DEFAULT '',
    -- 0, or which escalation.
    stage BIGINT NOT NULL DEFAULT 0,
    -- "waiting", "sending", "sent", "dead".
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    made_at TEXT NOT NULL,
    next_at TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    -- What the receiver said, or why it was not reached.
    answer TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (notification, channel, address),
    FOREIGN KEY (notification) REFERENCES notifications (number)
);
CREATE INDEX notification_deliveries_due ON notification_deliveries (channel, next_at)
    WHERE state IN ('waiting', 'sending');
CREATE INDEX notification_deliveries_dead ON notification_deliveries (notification) WHERE state = 'dead';
