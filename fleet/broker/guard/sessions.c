/* The live connections; see sessions.h. */
#include "sessions.h"

#include <stdlib.h>
#include <string.h>

#define FEWEST_SLOTS 64

static size_t slot_of(const struct sessions *sessions, const void *client)
{
    uint64_t hash = ((uint64_t)(uintptr_t)client >> 4) * 0x9e3779b97f4a7c15ULL;
    size_t slot = (size_t)(hash >> 32) & (sessions->slots - 1);
    while (sessions->index[slot] != 0 && sessions->all[sessions->index[slot] - 1]->client != client) {
        slot = (slot + 1) & (sessions->slots - 1);
    }
    return slot;
}

static struct session **chain_of(const struct sessions *sessions, const char *client_id)
{
    uint64_t hash = 1469598103934665603ULL; /* FNV-1a; only admitted client ids come here */
    for (const char *c = client_id; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 1099511628211ULL;
    }
    return &sessions->by_client_id[(size_t)(hash ^ (hash >> 32)) & (sessions->slots - 1)];
}

static void link_session(struct sessions *sessions, size_t position)
{
    struct session *session = sessions->all[position];
    struct session **chain = chain_of(sessions, session->client_id);
    sessions->index[slot_of(sessions, session->client)] = position + 1;
    session->next_by_client_id = *chain;
    *chain = session;
}

static bool reindex(struct sessions *sessions, size_t slots)
{
    size_t *index = calloc(slots, sizeof *index);
    struct session **by_client_id = calloc(slots, sizeof(struct session *));
    if (index == NULL || by_client_id == NULL) {
        free(index);
        free(by_client_id);
        return false;
    }
    free(sessions->index);
    free(sessions->by_client_id);
    sessions->index = index;
    sessions->by_client_id = by_client_id;
    sessions->slots = slots;
    for (size_t i = 0; i < sessions->count; i++) {
        link_session(sessions, i);
    }
    return true;
}

static bool make_room(struct sessions *sessions)
{
    if (sessions->count == sessions->room) {
        size_t room = sessions->room ? sessions->room * 2 : FEWEST_SLOTS;
        struct session **all = realloc(sessions->all, room * sizeof(struct session *));
        if (all == NULL) {
            return false;
        }
        sessions->all = all;
        sessions->room = room;
    }
    bool full = (sessions->count + 1) * 2 > sessions->slots;
    return !full || reindex(sessions, sessions->slots ? sessions->slots * 2 : 2 * FEWEST_SLOTS);
}

void sessions_free(struct sessions *sessions)
{
    for (size_t i = 0; i < sessions->count; i++) {
        free(sessions->all[i]);
    }
    free(sessions->all);
    free(sessions->index);
    free(sessions->by_client_id);
    memset(sessions, 0, sizeof *sessions);
}

bool sessions_add(struct sessions *sessions, struct session *session)
{
    sessions_remove(sessions, session->client);
    if (!make_room(sessions)) {
        return false;
    }
    if (sessions->count == 0 || session->not_after < sessions->next_end) {
        sessions->next_end = session->not_after;
    }
    sessions->all[sessions->count] = session;
    link_session(sessions, sessions->count++);
    return true;
}

struct session *sessions_find(const struct sessions *sessions, const void *client)
{
    if (sessions->slots == 0) {
        return NULL;
    }
    size_t position = sessions->index[slot_of(sessions, client)];
    return position != 0 ? sessions->all[position - 1] : NULL;
}

/* Closes the gap that an emptied slot leaves in a run of open addressing. */
static void empty_slot(struct sessions *sessions, size_t hole)
{
    sessions->index[hole] = 0;
    for (size_t slot = (hole + 1) & (sessions->slots - 1); sessions->index[slot] != 0;
         slot = (slot + 1) & (sessions->slots - 1)) {
        size_t position = sessions->index[slot];
        sessions->index[slot] = 0;
        sessions->index[slot_of(sessions, sessions->all[position - 1]->client)] = position;
    }
}

void sessions_remove(struct sessions *sessions, const void *client)
{
    if (sessions->slots == 0) {
        return;
    }
    size_t slot = slot_of(sessions, client);
    size_t position = sessions->index[slot];
    if (position == 0) {
        return;
    }
    struct session *gone = sessions->all[position - 1];
    struct session **link = chain_of(sessions, gone->client_id);
    while (*link != gone) {
        link = &(*link)->next_by_client_id;
    }
    *link = gone->next_by_client_id;
    empty_slot(sessions, slot);
    struct session *last = sessions->all[--sessions->count];
    if (last != gone) {
        size_t last_slot = slot_of(sessions, last->client);
        sessions->all[position - 1] = last;
        sessions->index[last_slot] = position;
    }
    free(gone);
}

struct session *sessions_other(const struct sessions *sessions, const char *client_id, const void *client)
{
    if (sessions->slots == 0) {
        return NULL;
    }
    for (struct session *session = *chain_of(sessions, client_id); session != NULL;
         session = session->next_by_client_id) {
        if (session->client != client && !session->ended && strcmp(session->client_id, client_id) == 0) {
            return session;
        }
    }
    return NULL;
}

struct session *sessions_numbered(const struct sessions *sessions, const char *client_id, uint64_t number)
{
    if (sessions->slots == 0) {
        return NULL;
    }
    struct session *session = *chain_of(sessions, client_id);
    while (session != NULL &&
           (session->number != number || session->ended || strcmp(session->client_id, client_id) != 0)) {
        session = session->next_by_client_id;
    }
    return session;
}

void sessions_recount(struct sessions *sessions)
{
    sessions->next_end = INT64_MAX;
    for (size_t i = 0; i < sessions->count; i++) {
        if (!sessions->all[i]->ended && sessions->all[i]->not_after < sessions->next_end) {
            sessions->next_end = sessions->all[i]->not_after;
        }
    }
}
