/* The state of one guard, and what its parts do for each other. One broker loads one guard.
 *
 * Whatever cannot be read, decided or remembered is refused.
 */
#ifndef FLEET_GUARD_GUARD_H
#define FLEET_GUARD_GUARD_H

#include <mosquitto.h>
#if LIBMOSQUITTO_VERSION_NUMBER < 2001000 /* from 2.1 on, one header holds all */
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#endif

#include "listing.h"
#include "sessions.h"

#define CONTROL_TOPIC "$CONTROL/fleet/v1"
#define EVENTS_TOPIC "$fleet/guard/events"
#define REPLIES_TOPIC "$fleet/guard/reply"
#define DECISIONS_TOPIC "$fleet/guard/decisions"

struct guard {
    mosquitto_plugin_id_t *plugin;
    struct rules rules;
    struct allowlist *list; /* NULL: no good list was ever read, everything is refused */
    struct sessions sessions;
    uint8_t rules_digest[DIGEST_SIZE]; /* SHA-256 of their text */
    char *rules_path;
    char *list_path;
    char *journal_path;
    char run[2 * GENERATION_SIZE + 1]; /* names this run of the broker */
    uint64_t stamp;                    /* of the last event; grows across runs too */
    uint64_t reloads;
    uint64_t tick;                     /* counts the broker's rounds; what is queued goes out in the next */
    uint64_t astray_at;                /* the round in which a client left before its answer went out */
    unsigned told;                     /* decisions in this round */
    bool reloading;                    /* SIGHUP: the broker asks again for what it knows */
    int64_t reloaded_at;
    int64_t confirmed_at;              /* when the server last said that this list is the store's */
    int64_t alarm_after_s;
    int64_t alarmed_at;
};

/* decide.c: who may connect, and what may pass. The answers are reasons, or NULL for yes. */
const char *decide_connect(const struct guard *guard, const struct identity *identity,
                           const struct entry **entry);
const char *decide_manner(const struct guard *guard, const struct entry *entry,
                          const struct mosquitto *client);
bool decide_topic(const struct guard *guard, const struct mosquitto_evt_acl_check *check);
bool decide_receive(const struct guard *guard, const struct session *session, const char *topic);
bool decide_stays(const struct guard *guard, const struct session *session, int64_t now);

/* lists.c: the list in force. */
const char *lists_load(struct guard *guard); /* NULL, or why the old list stays */
void lists_load_if_other(struct guard *guard);
char *read_whole_file(const char *path, size_t *length); /* NULL if it cannot be read */
bool lists_load_rules(struct guard *guard); /* false: the old ones stay */

/* live.c: ending live sessions. */
void live_end(struct session *session, const char *reason);
void live_end_unlisted(struct guard *guard, const char *reason);
void live_end_expired(struct guard *guard, int64_t now);
void live_classify(struct guard *guard); /* gives every session the class that the list says now */
void live_forget_told(struct guard *guard);

/* shared.c: topics that many clients share by name. */
int on_message(int event, void *data, void *user);

/* control.c */
int on_control(int event, void *data, void *user);

/* report.c: words of text, and what the server is told. */
struct words {
    char *at;
    size_t length;
    size_t room;
    bool failed; /* memory ran out: what stands there must not be sent */
};
void words_text(struct words *words, const char *text);   /* as it is */
void words_add(struct words *words, const char *word);    /* a space, then the word, percent-encoded */
void words_number(struct words *words, uint64_t number);  /* a space, then the number */
void words_free(struct words *words);
void report_event(struct guard *guard, const char *kind, const struct session *session);
void report_decision(struct guard *guard, const struct mosquitto_evt_acl_check *check, bool allowed);
void report_reply(const char *client_id, struct words *words); /* sends and frees */

#endif
