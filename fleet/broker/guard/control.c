/* Takes orders from the server's own service, and answers each with one reply or more.
 *
 * An order: `<id> <verb> [argument...]`, newline, body. A reply: `<id> ok|error ...`, then lines of words.
 */
#include "guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONGEST_ID 32
#define SESSIONS_A_REPLY 500

struct order {
    struct guard *guard;
    const char *client_id; /* who asked */
    const void *client;
    char id[LONGEST_ID + 1];
    struct span arguments;
    struct span body;
};

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void refuse(const struct order *order, const char *code)
{
    struct words words = {0};
    words_text(&words, order->id);
    words_add(&words, "error");
    words_add(&words, code);
    report_reply(order->client_id, &words);
}

static void start_reply(const struct order *order, struct words *words)
{
    words_text(words, order->id);
    words_add(words, "ok");
}

static void add_status(const struct guard *guard, struct words *words)
{
    const struct allowlist *list = guard->list;
    char generation[2 * GENERATION_SIZE + 1] = "", digest[2 * DIGEST_SIZE + 1] = "";
    if (list != NULL) {
        write_hex(list->generation, GENERATION_SIZE, generation);
        write_hex(list->digest, DIGEST_SIZE, digest);
    }
    words_text(words, "\nstatus");
    words_add(words, guard->run);
    words_add(words, generation);
    words_number(words, list != NULL ? list->sequence : 0);
    words_number(words, list != NULL ? list->count : 0);
    words_add(words, digest);
    words_number(words, guard->stamp);
    words_number(words, guard->sessions.count);
    words_number(words, guard->reloads);
    write_hex(guard->rules_digest, DIGEST_SIZE, digest);
    words_add(words, digest);
}

static void reply_status(const struct order *order)
{
    struct words words = {0};
    start_reply(order, &words);
    add_status(order->guard, &words);
    report_reply(order->client_id, &words);
}

static void do_status(const struct order *order)
{
    reply_status(order);
}

/* confirm <digest>: the server says that the list in force is the store's. */
static void do_confirm(const struct order *order)
{
    struct span line = order->arguments, word;
    uint8_t digest[DIGEST_SIZE];
    if (!last_word(&line, &word) || !read_hex(word, digest, sizeof digest)) {
        refuse(order, "malformed");
        return;
    }
    const struct allowlist *list = order->guard->list;
    if (list == NULL || memcmp(list->digest, digest, sizeof digest) != 0) {
        refuse(order, "mismatch");
        return;
    }
    order->guard->confirmed_at = (int64_t)time(NULL);
    order->guard->alarmed_at = 0;
    reply_status(order);
}

static void do_load(const struct order *order)
{
    const char *problem = lists_load(order->guard);
    if (problem != NULL) {
        refuse(order, "unreadable");
        return;
    }
    reply_status(order);
}

/* rules: the server has written others; they count for live sessions too. */
static void do_rules(const struct order *order)
{
    if (!lists_load_rules(order->guard)) {
        refuse(order, "unreadable");
        return;
    }
    reply_status(order);
}

static void add_dropped(struct words *words, const struct session *session, int64_t since_us)
{
    words_text(words, "\ndropped");
    words_add(words, session->name);
    words_add(words, session->client_id);
    words_add(words, session->identity.serial);
    words_number(words, (uint64_t)(now_us() - since_us));
}

/* Ends every live session that `condemned` points out, and names them in the reply. */
static void end_and_tell(const struct order *order, struct words *words, const char *reason,
                         bool (*condemned)(const struct order *, const struct session *), int64_t since_us)
{
    struct sessions *sessions = &order->guard->sessions;
    for (size_t i = sessions->count; i-- > 0;) {
        if (i >= sessions->count) {
            continue;
        }
        struct session *session = sessions->all[i];
        if (session->ended || !condemned(order, session)) {
            continue;
        }
        struct session copy = *session;
        live_end(session, reason);
        add_dropped(words, &copy, since_us);
    }
    sessions_recount(sessions);
}

static bool is_unlisted(const struct order *order, const struct session *session)
{
    return !decide_stays(order->guard, session, (int64_t)time(NULL));
}

static bool is_named(const struct order *order, const struct session *session)
{
    /* The one who asks stays: it could not hear the answer. */
    return session->client != order->client && span_is(order->arguments, session->name);
}

static void do_change(const struct order *order)
{
    int64_t since_us = now_us();
    struct guard *guard = order->guard;
    struct span body = order->body;
    struct entry *removed = NULL;
    if (guard->list == NULL) {
        refuse(order, "gap");
        return;
    }
    enum reading result = listing_change(guard->list, &body, &removed);
    if (result != READING_DONE) {
        refuse(order, result == READING_GAP ? "gap" : result == READING_MEMORY ? "memory" : "malformed");
        return;
    }
    struct words words = {0};
    start_reply(order, &words);
    if (removed != NULL) {
        live_classify(guard); /* what was removed may be back in another class */
        end_and_tell(order, &words, "removed", is_unlisted, since_us);
    }
    listing_free_removed(removed);
    add_status(guard, &words);
    report_reply(order->client_id, &words);
}

static void do_kick(const struct order *order)
{
    struct words words = {0};
    start_reply(order, &words);
    end_and_tell(order, &words, "kicked", is_named, now_us());
    add_status(order->guard, &words);
    report_reply(order->client_id, &words);
}

static void add_session(struct words *words, const struct session *session)
{
    words_text(words, "\nsession");
    words_add(words, session->name);
    words_add(words, session->client_id);
    words_add(words, session->identity.issuer);
    words_add(words, session->identity.serial);
    words_add(words, session->address);
    words_number(words, (uint64_t)session->connected_at);
}

static void do_sessions(const struct order *order)
{
    const struct sessions *sessions = &order->guard->sessions;
    size_t next = 0;
    do {
        struct words words = {0};
        start_reply(order, &words);
        size_t end = sessions->count - next > SESSIONS_A_REPLY ? next + SESSIONS_A_REPLY : sessions->count;
        for (; next < end; next++) {
            if (!sessions->all[next]->ended) {
                add_session(&words, sessions->all[next]);
            }
        }
        if (next < sessions->count) {
            words_text(&words, "\nmore");
        }
        report_reply(order->client_id, &words);
    } while (next < sessions->count);
}

static const struct {
    const char *verb;
    void (*act)(const struct order *);
} VERBS[] = {
    {"status", do_status}, {"confirm", do_confirm}, {"load", do_load},
    {"change", do_change}, {"kick", do_kick},       {"sessions", do_sessions},
    {"rules", do_rules},
};

static bool read_order(struct order *order, struct span text, struct span *verb)
{
    struct span line, id;
    if (!next_line(&text, &line) || !next_word(&line, &id) || id.length > LONGEST_ID ||
        !next_word(&line, verb)) {
        return false;
    }
    memcpy(order->id, id.at, id.length);
    order->id[id.length] = '\0';
    order->arguments = line;
    order->body = text;
    return true;
}

static void obey(struct order *order, struct span text)
{
    struct span verb;
    if (!read_order(order, text, &verb)) {
        mosquitto_log_printf(MOSQ_LOG_WARNING, "fleet guard: an order that cannot be read");
        return;
    }
    for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++) {
        if (span_is(verb, VERBS[i].verb)) {
            VERBS[i].act(order);
            return;
        }
    }
    refuse(order, "unknown-verb");
}

int on_control(int event, void *data, void *user)
{
    (void)event;
    const struct mosquitto_evt_control *control = data;
    struct guard *guard = user;
    const struct session *session = sessions_find(&guard->sessions, control->client);
    if (session == NULL || session->ended || session->purpose != PURPOSE_SERVICE) {
        return MOSQ_ERR_ACL_DENIED; /* the rules refuse it already; this is the second lock */
    }
    char client_id[LONGEST_CLIENT_ID + 1];
    memcpy(client_id, session->client_id, sizeof client_id);
    struct order order = {.guard = guard, .client_id = client_id, .client = control->client};
    obey(&order, (struct span){.at = control->payload, .length = control->payloadlen});
    return MOSQ_ERR_SUCCESS;
}
