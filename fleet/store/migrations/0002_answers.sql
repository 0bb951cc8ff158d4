-- What operators' programs were answered, kept for a day, so that a request that is sent again acts once.
CREATE TABLE answers (
    operator TEXT NOT NULL,
    -- SHA-256 of the idempotency key.
    key_hash TEXT NOT NULL,
    -- SHA-256 of the request: the same key with another request is refused.
    request_hash TEXT NOT NULL,
    -- Which start of the server took the request.
    run TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    -- Encrypted, for it may hold a code or a key; NULL until the act is done.
    answer BLOB,
    PRIMARY KEY (operator, key_hash)
);
CREATE INDEX answers_by_time ON answers (asked_at);
