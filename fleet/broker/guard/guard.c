/* fleet guard: a Mosquitto plugin that makes the broker admit what the fleet's store admits, and no more.
 *
 * Options, each `plugin_opt_<name>`: rules FILE, list FILE, journal FILE, alarm_after SECONDS.
 * Without readable rules the broker does not start; without a readable list it refuses every client.
 */
#include "guard.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PLUGIN_VERSION 5
#define DEFAULT_ALARM_AFTER_S 3600

static int refuse(struct guard *guard, const struct mosquitto *client, struct session *session,
                  const char *reason)
{
    const char *client_id = mosquitto_client_id(client), *address = mosquitto_client_address(client);
    strncpy(session->client_id, client_id != NULL ? client_id : "", LONGEST_CLIENT_ID);
    strncpy(session->address, address != NULL ? address : "", LONGEST_ADDRESS);
    session->reason = reason;
    report_event(guard, "refused", session);
    return MOSQ_ERR_AUTH;
}

enum shown { SHOWN_NOTHING, SHOWN_GARBAGE, SHOWN_CERTIFICATE };

static enum shown read_identity(const struct mosquitto *client, struct identity *identity)
{
    X509 *certificate = mosquitto_client_certificate(client);
    if (certificate == NULL) {
        return SHOWN_NOTHING;
    }
    bool good = identity_of(certificate, identity);
    X509_free(certificate);
    return good ? SHOWN_CERTIFICATE : SHOWN_GARBAGE;
}

static bool set_name(struct mosquitto *client, const char *name)
{
    const char *given = mosquitto_client_username(client);
    return (given != NULL && strcmp(given, name) == 0) ||
           mosquitto_set_username(client, name) == MOSQ_ERR_SUCCESS;
}

static struct session *new_session(const struct mosquitto *client, const struct session *seen,
                                   const struct entry *entry)
{
    struct session *session = malloc(sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    const char *address = mosquitto_client_address(client);
    *session = *seen;
    session->client = client;
    session->purpose = entry->purpose;
    session->access = entry->access;
    session->connected_at = (int64_t)time(NULL);
    session->not_after =
        entry->not_after < seen->identity.not_after ? entry->not_after : seen->identity.not_after;
    memcpy(session->name, entry->name, entry->name_length + 1);
    strncpy(session->client_id, mosquitto_client_id(client), LONGEST_CLIENT_ID);
    strncpy(session->address, address != NULL ? address : "", LONGEST_ADDRESS);
    return session;
}

static int admit(struct guard *guard, struct mosquitto *client, struct session *seen,
                 const struct entry *entry)
{
    struct session *session = new_session(client, seen, entry);
    if (session == NULL || !set_name(client, entry->name) || !sessions_add(&guard->sessions, session)) {
        free(session);
        return refuse(guard, client, seen, "memory");
    }
    struct session *before = sessions_other(&guard->sessions, session->client_id, client);
    if (before != NULL) {
        before->reason = "replaced"; /* the broker ends it next: one client id, one connection */
    }
    report_event(guard, "connected", session);
    session->number = guard->stamp;
    return MOSQ_ERR_SUCCESS;
}

/* SIGHUP: the broker asks once more for every session that it knows. */
static int recheck(struct session *session, bool stays)
{
    if (stays) {
        return MOSQ_ERR_SUCCESS;
    }
    session->ended = true;
    session->reason = "removed";
    return MOSQ_ERR_AUTH;
}

/* It asks for kept sessions without a connection too, which show no certificate; there is nobody to refuse,
 * and Mosquitto 2.0 would put such a session twice on its list of those to expire. No listener of ours lets
 * a client in without a certificate, and the broker asks before it goes on to anything else. */
static bool is_kept_session(const struct guard *guard)
{
    return guard->reloading && (int64_t)time(NULL) - guard->reloaded_at <= 1;
}

static int judge(struct guard *guard, struct mosquitto *client, struct session *seen)
{
    const struct entry *entry = NULL;
    const char *reason = decide_connect(guard, &seen->identity, &entry);
    if (entry != NULL) {
        memcpy(seen->name, entry->name, entry->name_length + 1);
    }
    if (reason == NULL) {
        reason = decide_manner(guard, entry, client);
    }
    return reason == NULL ? admit(guard, client, seen, entry) : refuse(guard, client, seen, reason);
}

static bool is_same(const struct session *known, const struct identity *identity)
{
    return memcmp(known->identity.fingerprint, identity->fingerprint, FINGERPRINT_SIZE) == 0;
}

static int on_connect(int event, void *data, void *user)
{
    (void)event;
    const struct mosquitto_evt_basic_auth *connect = data;
    struct guard *guard = user;
    struct session seen = {0};
    struct session *known = sessions_find(&guard->sessions, connect->client);
    enum shown shown = read_identity(connect->client, &seen.identity);
    if (shown == SHOWN_NOTHING && is_kept_session(guard)) {
        return MOSQ_ERR_SUCCESS;
    }
    if (shown != SHOWN_CERTIFICATE) {
        return refuse(guard, connect->client, &seen, "no-certificate");
    }
    /* The same client at the same place with the same certificate: no new connection can look like that. */
    if (known != NULL && guard->reloading && is_same(known, &seen.identity)) {
        return recheck(known, decide_stays(guard, known, (int64_t)time(NULL)));
    }
    return judge(guard, connect->client, &seen);
}

static int on_topic(int event, void *data, void *user)
{
    (void)event;
    bool allowed = decide_topic(user, data);
    report_decision(user, data, allowed);
    return allowed ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}

static int on_disconnect(int event, void *data, void *user)
{
    (void)event;
    const struct mosquitto_evt_disconnect *disconnect = data;
    struct guard *guard = user;
    const struct session *session = sessions_find(&guard->sessions, disconnect->client);
    if (session != NULL) {
        if (session->answered_at == guard->tick) {
            guard->astray_at = guard->tick;
        }
        report_event(guard, "disconnected", session);
        sessions_remove(&guard->sessions, disconnect->client);
    }
    return MOSQ_ERR_SUCCESS;
}

static void mind_age(struct guard *guard, int64_t now)
{
    int64_t age = now - guard->confirmed_at;
    if (age >= guard->alarm_after_s && now - guard->alarmed_at >= guard->alarm_after_s) {
        guard->alarmed_at = now;
        mosquitto_log_printf(MOSQ_LOG_WARNING,
                             "fleet guard: for %lld s nobody confirmed the list of admitted certificates; "
                             "the last good one stays in force",
                             (long long)age);
    }
}

static int on_tick(int event, void *data, void *user)
{
    (void)event;
    struct mosquitto_evt_tick *tick = data;
    struct guard *guard = user;
    int64_t now = (int64_t)time(NULL);
    tick->next_s = 1; /* Mosquitto 2.1 sleeps until somebody asks for a tick; 2.0 ticks anyway */
    guard->reloading = false;
    guard->tick++;
    guard->told = 0;
    live_end_expired(guard, now);
    mind_age(guard, now);
    return MOSQ_ERR_SUCCESS;
}

static int on_reload(int event, void *data, void *user)
{
    (void)event;
    (void)data;
    struct guard *guard = user;
    if (!lists_load_rules(guard)) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "fleet guard: %s: the rules cannot be used; the old ones stay",
                             guard->rules_path);
    }
    lists_load_if_other(guard);
    guard->reloads++;
    guard->reloading = true;
    guard->reloaded_at = (int64_t)time(NULL);
    return MOSQ_ERR_SUCCESS;
}

static const char *option(const struct mosquitto_opt *options, int count, const char *key)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(options[i].key, key) == 0) {
            return options[i].value;
        }
    }
    return NULL;
}

static bool configure(struct guard *guard, const struct mosquitto_opt *options, int count)
{
    const char *list = option(options, count, "list"), *journal = option(options, count, "journal");
    const char *rules = option(options, count, "rules");
    const char *alarm_after = option(options, count, "alarm_after");
    uint64_t alarm_after_s = DEFAULT_ALARM_AFTER_S;
    uint8_t run[GENERATION_SIZE];
    if (rules == NULL || list == NULL || journal == NULL || RAND_bytes(run, sizeof run) != 1 ||
        (alarm_after != NULL && !read_number(span_of(alarm_after), &alarm_after_s))) {
        return false;
    }
    write_hex(run, sizeof run, guard->run);
    guard->rules_path = strdup(rules);
    guard->list_path = strdup(list);
    guard->journal_path = strdup(journal);
    guard->alarm_after_s = (int64_t)alarm_after_s;
    guard->confirmed_at = (int64_t)time(NULL);
    /* Nanoseconds: no run has that many events, so the stamps of a later run are higher. */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    guard->stamp = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return guard->list_path != NULL && guard->journal_path != NULL &&
           guard->rules_path != NULL && lists_load_rules(guard);
}

static const struct {
    int event;
    MOSQ_FUNC_generic_callback call;
    const char *topic;
} CALLBACKS[] = {
    {MOSQ_EVT_BASIC_AUTH, on_connect, NULL},    {MOSQ_EVT_ACL_CHECK, on_topic, NULL},
    {MOSQ_EVT_DISCONNECT, on_disconnect, NULL}, {MOSQ_EVT_TICK, on_tick, NULL},
    {MOSQ_EVT_RELOAD, on_reload, NULL},         {MOSQ_EVT_CONTROL, on_control, CONTROL_TOPIC},
    {MOSQ_EVT_MESSAGE, on_message, NULL},
};

static bool register_all(struct guard *guard)
{
    for (size_t i = 0; i < sizeof CALLBACKS / sizeof *CALLBACKS; i++) {
        if (mosquitto_callback_register(guard->plugin, CALLBACKS[i].event, CALLBACKS[i].call,
                                        CALLBACKS[i].topic, guard) != MOSQ_ERR_SUCCESS) {
            return false;
        }
    }
    return true;
}

static void free_guard(struct guard *guard)
{
    allowlist_free(guard->list);
    sessions_free(&guard->sessions);
    rules_free(&guard->rules);
    free(guard->rules_path);
    free(guard->list_path);
    free(guard->journal_path);
    free(guard);
}

int mosquitto_plugin_version(int count, const int *versions)
{
    for (int i = 0; i < count; i++) {
        if (versions[i] == PLUGIN_VERSION) {
            return PLUGIN_VERSION;
        }
    }
    return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *plugin, void **user, struct mosquitto_opt *options,
                          int count)
{
    struct guard *guard = calloc(1, sizeof *guard);
    if (guard == NULL) {
        return MOSQ_ERR_NOMEM;
    }
    guard->plugin = plugin;
    guard->tick = 1; /* 0 is never */
    if (!configure(guard, options, count) || !register_all(guard)) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "fleet guard: its rules or options cannot be used");
        free_guard(guard);
        return MOSQ_ERR_INVAL;
    }
    lists_load(guard);
    *user = guard;
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_cleanup(void *user, struct mosquitto_opt *options, int count)
{
    (void)options;
    (void)count;
    struct guard *guard = user;
    if (guard != NULL) {
        for (size_t i = 0; i < sizeof CALLBACKS / sizeof *CALLBACKS; i++) {
            mosquitto_callback_unregister(guard->plugin, CALLBACKS[i].event, CALLBACKS[i].call,
                                          CALLBACKS[i].topic);
        }
        free_guard(guard);
    }
    return MOSQ_ERR_SUCCESS;
}
