/* Keeps apart what clients ask and hear on topics that they share by name; see isolation.h and guard.h.
 *
 * No subscription carries these messages: a request leaves its topic before it is routed, and an answer is
 * handed to one live connection. It goes out once or never (quality of service 0), so that no session of the
 * broker keeps it for whoever connects next.
 */
#include "guard.h"
#include "isolation.h"

#include <string.h>

static struct shared_link link_of(const struct guard *guard, const struct session *session)
{
    struct shared_link link = {.issuer = span_of(session->identity.issuer),
                               .serial = span_of(session->identity.serial),
                               .run = span_of(guard->run),
                               .number = session->number,
                               .client_id_length = strlen(session->client_id)};
    memcpy(link.client_id, session->client_id, link.client_id_length + 1);
    return link;
}

static int take_inside(const struct guard *guard, const struct session *session,
                       struct mosquitto_evt_message *message)
{
    struct shared_link link = link_of(guard, session);
    struct span shared = span_of(message->topic);
    size_t length = isolation_write_request(&link, shared, NULL, 0);
    char *topic = length > 0 ? mosquitto_calloc(1, length + 1) : NULL;
    if (topic == NULL) {
        return MOSQ_ERR_ACL_DENIED; /* on its own topic it must not be routed */
    }
    isolation_write_request(&link, shared, topic, length + 1);
    message->topic = topic;
    return MOSQ_ERR_SUCCESS;
}

static bool is_of(const struct shared_link *link, const struct guard *guard, const struct session *session)
{
    return span_is(link->run, guard->run) && span_is(link->serial, session->identity.serial) &&
           span_is(link->issuer, session->identity.issuer);
}

static void hand_over(struct guard *guard, const struct mosquitto_evt_message *message)
{
    struct shared_link link;
    struct span shared;
    if (!isolation_read_answer(span_of(message->topic), &link, &shared)) {
        return;
    }
    struct session *session = sessions_numbered(&guard->sessions, link.client_id, link.number);
    /* `shared` ends where the topic does: in NUL. */
    if (session == NULL || !is_of(&link, guard, session) || !decide_receive(guard, session, shared.at)) {
        return; /* nobody is there to hear it any more */
    }
    if (mosquitto_broker_publish_copy(session->client_id, shared.at, (int)message->payloadlen,
                                      message->payload, 0, false, NULL) == MOSQ_ERR_SUCCESS) {
        session->answered_at = guard->tick;
    }
}

int on_message(int event, void *data, void *user)
{
    (void)event;
    struct mosquitto_evt_message *message = data;
    struct guard *guard = user;
    struct span topic = span_of(message->topic);
    bool shared = isolation_is_shared(topic);
    if (!shared && !isolation_is_inside(topic)) {
        return MOSQ_ERR_SUCCESS;
    }
    const struct session *session = sessions_find(&guard->sessions, message->client);
    if (session == NULL || session->ended) {
        return MOSQ_ERR_ACL_DENIED;
    }
    if (shared) {
        return take_inside(guard, session, message);
    }
    if (session->purpose == PURPOSE_SERVICE) {
        hand_over(guard, message);
    }
    return MOSQ_ERR_SUCCESS;
}
