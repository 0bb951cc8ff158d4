/* The live connections, found by the broker's client, which is only ever compared, never read here.
 *
 * One client id may stand here twice for a moment: while a connection takes over from the one before.
 */
#ifndef FLEET_GUARD_SESSIONS_H
#define FLEET_GUARD_SESSIONS_H

#include "identity.h"

#define LONGEST_ADDRESS 64
#define MOST_TOLD 64 /* decisions of one session that are told */

struct session {
    const void *client;
    struct session *next_by_client_id;
    struct identity identity;
    enum purpose purpose;
    uint64_t access;   /* its class of the access policy, as the list says now */
    uint32_t told[MOST_TOLD]; /* hashes of decisions that the server was told of */
    size_t told_count;
    int64_t not_after; /* the earlier one of the certificate's and the allowlist's */
    int64_t connected_at;
    uint64_t number;      /* the stamp of its connection: no other has it */
    uint64_t answered_at; /* the tick of the last answer that went to its client id, 0 for none */
    bool ended;         /* condemned: nothing more passes, whatever the broker still does with it */
    const char *reason; /* why it ended, if the guard ended it */
    char name[LONGEST_NAME + 1];
    char client_id[LONGEST_CLIENT_ID + 1];
    char address[LONGEST_ADDRESS + 1];
};

struct sessions {
    size_t count;
    size_t room;
    struct session **all;
    size_t slots; /* a power of two; open addressing by client, holds index + 1 into `all` */
    size_t *index;
    struct session **by_client_id; /* `slots` chains */
    int64_t next_end; /* no session ends before this */
};

void sessions_free(struct sessions *sessions);

/* Takes the session over; false when memory is short. */
bool sessions_add(struct sessions *sessions, struct session *session);
struct session *sessions_find(const struct sessions *sessions, const void *client);
void sessions_remove(struct sessions *sessions, const void *client); /* frees it */

/* Another live session with this client id, or NULL. */
struct session *sessions_other(const struct sessions *sessions, const char *client_id, const void *client);

/* The live session with this client id and number, or NULL. */
struct session *sessions_numbered(const struct sessions *sessions, const char *client_id, uint64_t number);

/* Recounts when the next one ends. */
void sessions_recount(struct sessions *sessions);

#endif
