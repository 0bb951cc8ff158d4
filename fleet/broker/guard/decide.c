/* Decides who may connect, and what may pass; see guard.h.
 *
 * A chain that TLS accepted is necessary and never enough: the allowlist names each certificate.
 */
#include "guard.h"

#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

const char *decide_connect(const struct guard *guard, const struct identity *identity,
                           const struct entry **entry)
{
    *entry = NULL;
    if (guard->list == NULL) {
        return "no-list";
    }
    const struct entry *found = identity->listable ? allowlist_find(guard->list, &identity->key) : NULL;
    if (found == NULL) {
        return "unlisted";
    }
    if (CRYPTO_memcmp(found->fingerprint, identity->fingerprint, FINGERPRINT_SIZE) != 0) {
        return "fingerprint";
    }
    *entry = found;
    int64_t now = (int64_t)time(NULL);
    return now >= found->not_after || now >= identity->not_after ? "expired" : NULL;
}

static struct who who_of(const struct entry *entry, const char *serial, const char *client)
{
    return (struct who){.purpose = entry->purpose,
                        .access = entry->access,
                        .name = span_of(entry->name),
                        .serial = span_of(serial),
                        .client = span_of(client)};
}

static struct who who_speaks(const struct session *session)
{
    return (struct who){.purpose = session->purpose,
                        .access = session->access,
                        .name = span_of(session->name),
                        .serial = span_of(session->identity.serial),
                        .client = span_of(session->client_id)};
}

/* In MQTT 5 a clean start says nothing of the end: such a session may live for ever (MQTT 5 3.1.2.11.2), and
 * the broker does not tell us. So it takes MQTT 3.1.1, where clean is clean. */
static bool leaves_nothing(const struct mosquitto *client)
{
    return mosquitto_client_clean_session(client) && mosquitto_client_protocol_version(client) < 5;
}

static bool connects_by_name(const struct guard *guard, struct span name)
{
    const struct entry *entry = NULL;
    do {
        entry = allowlist_named(guard->list, name, entry);
    } while (entry != NULL && entry->purpose == PURPOSE_CLAIM);
    return entry != NULL;
}

/* Says whether a client id is a name by which somebody connects, or a part of one: then it is that one's. */
static bool is_somebodys(const struct guard *guard, struct span client_id)
{
    struct span name = client_id;
    while (name.length > 0) {
        if (connects_by_name(guard, name)) {
            return true;
        }
        do {
            name.length--;
        } while (name.length > 0 && name.at[name.length] != '.');
    }
    return false;
}

/* A client id that a shared certificate does not prove must not evict whoever uses it, nor get an answer that
 * was for whoever had it a moment ago. */
static bool is_taken(const struct guard *guard, const struct connect_rule *rule,
                     const struct mosquitto *client)
{
    const struct session *other = sessions_other(&guard->sessions, mosquitto_client_id(client), client);
    if (rule->form == CLIENT_IS_OTHER) {
        return guard->astray_at == guard->tick || (other != NULL && other->answered_at == guard->tick);
    }
    return rule->form == CLIENT_IS_SHA256 && other != NULL;
}

const char *decide_manner(const struct guard *guard, const struct entry *entry,
                          const struct mosquitto *client)
{
    const char *client_id = mosquitto_client_id(client);
    if (client_id == NULL || strlen(client_id) > LONGEST_CLIENT_ID) {
        return "client-id";
    }
    struct who who = who_of(entry, "", client_id);
    if (!rules_connects(&guard->rules, entry->purpose)) {
        return "purpose";
    }
    const struct connect_rule *rule = rules_connect(&guard->rules, &who);
    if (rule == NULL || (rule->form == CLIENT_IS_OTHER && is_somebodys(guard, span_of(client_id)))) {
        return "client-id";
    }
    int keepalive = mosquitto_client_keepalive(client);
    if (rule->longest_keepalive_s != 0 &&
        (keepalive < 1 || (uint64_t)keepalive > rule->longest_keepalive_s)) {
        return "keepalive";
    }
    if (rule->leaves == LEAVES_NOTHING && !leaves_nothing(client)) {
        return "session";
    }
    return is_taken(guard, rule, client) ? "client-id-taken" : NULL;
}

static bool may_retain(const struct rules *rules, const struct who *who)
{
    const struct connect_rule *rule = rules_connect(rules, who);
    return rule != NULL && rule->leaves == LEAVES_ALL;
}

static bool topic_allowed(const struct rules *rules, const struct who *who,
                          const struct mosquitto_evt_acl_check *check)
{
    switch (check->access) {
    case MOSQ_ACL_WRITE:
        return (!check->retain || may_retain(rules, who)) && rules_publish(rules, who, check->topic);
    case MOSQ_ACL_READ:
        return rules_receive(rules, who, check->topic);
    case MOSQ_ACL_SUBSCRIBE:
        return rules_subscribe(rules, who, check->topic);
    default:
        return false;
    }
}

/* A session between two connections, or a retained message of one that is gone: judged by the name alone,
 * as long as the allowlist holds a certificate of it. Nobody subscribes without a connection. */
static bool allowed_by_name(const struct guard *guard, const struct mosquitto_evt_acl_check *check)
{
    const char *name = mosquitto_client_username(check->client);
    const char *client_id = mosquitto_client_id(check->client);
    if (guard->list == NULL || name == NULL || client_id == NULL || check->access == MOSQ_ACL_SUBSCRIBE) {
        return false;
    }
    const struct entry *entry = NULL;
    while ((entry = allowlist_named(guard->list, span_of(name), entry)) != NULL) {
        char serial[SERIAL_TEXT];
        key_serial_text(&entry->key, serial);
        struct who who = who_of(entry, serial, client_id);
        if (rules_client(&guard->rules, &who) && topic_allowed(&guard->rules, &who, check)) {
            return true;
        }
    }
    return false;
}

bool decide_topic(const struct guard *guard, const struct mosquitto_evt_acl_check *check)
{
    if (check->access == MOSQ_ACL_UNSUBSCRIBE) {
        return true;
    }
    const struct session *session = sessions_find(&guard->sessions, check->client);
    if (session == NULL) {
        return allowed_by_name(guard, check);
    }
    struct who who = who_speaks(session);
    return !session->ended && topic_allowed(&guard->rules, &who, check);
}

bool decide_receive(const struct guard *guard, const struct session *session, const char *topic)
{
    struct who who = who_speaks(session);
    return !session->ended && rules_receive(&guard->rules, &who, topic);
}

bool decide_stays(const struct guard *guard, const struct session *session, int64_t now)
{
    const struct entry *entry;
    return !session->ended && now < session->not_after &&
           decide_connect(guard, &session->identity, &entry) == NULL;
}
