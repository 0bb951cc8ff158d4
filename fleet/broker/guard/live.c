/* Ends live sessions; see guard.h. */
#include "guard.h"

#include <string.h>
#include <time.h>

/* The broker closes the socket before this returns, and frees the session through the disconnect event. */
void live_end(struct session *session, const char *reason)
{
    char client_id[LONGEST_CLIENT_ID + 1];
    memcpy(client_id, session->client_id, sizeof client_id);
    session->ended = true;
    session->reason = reason;
    mosquitto_kick_client_by_clientid(client_id, false);
}

void live_classify(struct guard *guard)
{
    for (size_t i = 0; i < guard->sessions.count; i++) {
        struct session *session = guard->sessions.all[i];
        const struct entry *entry =
            guard->list != NULL ? allowlist_find(guard->list, &session->identity.key) : NULL;
        if (entry != NULL && session->access != entry->access) {
            session->access = entry->access;
            session->told_count = 0;
        }
    }
}

void live_forget_told(struct guard *guard)
{
    for (size_t i = 0; i < guard->sessions.count; i++) {
        guard->sessions.all[i]->told_count = 0;
    }
}

/* From the end: what is removed is replaced by one that was seen already. */
static void end_each(struct guard *guard, const char *reason, int64_t now)
{
    for (size_t i = guard->sessions.count; i-- > 0;) {
        if (i >= guard->sessions.count) {
            continue;
        }
        struct session *session = guard->sessions.all[i];
        if (!session->ended && !decide_stays(guard, session, now)) {
            live_end(session, now >= session->not_after ? "expired" : reason);
        }
    }
    sessions_recount(&guard->sessions);
}

void live_end_unlisted(struct guard *guard, const char *reason)
{
    end_each(guard, reason, (int64_t)time(NULL));
}

void live_end_expired(struct guard *guard, int64_t now)
{
    if (guard->sessions.count > 0 && now >= guard->sessions.next_end) {
        end_each(guard, "removed", now);
    }
}
