-- When the server wants each certificate renewed, and how many renewals it has planned.

-- When its device is to renew it, as the server chose when it issued it, or set it after an outage; NULL: by
-- its profile's rule.
ALTER TABLE certificates ADD COLUMN renew_after TEXT;
CREATE INDEX certificates_to_renew ON certificates (renew_after, serial)
    WHERE state IN ('issued', 'active') AND purpose = 'device' AND renew_after IS NOT NULL;
CREATE INDEX early_renewals_by_time ON early_renewals (renew_after, serial);

-- How many renewals are planned for an hour: what the next one is chosen by.
CREATE TABLE renewal_hours (
    -- Its first second.
    hour TEXT PRIMARY KEY,
    planned BIGINT NOT NULL
);
