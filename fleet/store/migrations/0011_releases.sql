-- What operators decided about units that stations put in quarantine.

CREATE TABLE unit_releases (
    number BIGINT PRIMARY KEY,
    station TEXT NOT NULL,
    hardware TEXT NOT NULL,
    device_id TEXT NOT NULL,
    -- "use": it goes on as it is; "rework": it is made anew.
    fate TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    released_at TEXT NOT NULL,
    -- When the station said that it has it; NULL: it is told at its next sync.
    taken_at TEXT,
    FOREIGN KEY (station) REFERENCES stations (name)
);
CREATE INDEX unit_releases_waiting ON unit_releases (station, number) WHERE taken_at IS NULL;
