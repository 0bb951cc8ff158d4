/* Tells the server what happened, one line of words each; see guard.h.
 *
 * Client ids and addresses come from strangers: all but plain characters are percent-encoded.
 */
#include "guard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONGEST_TOLD 256     /* of a topic */
#define MOST_TOLD_A_ROUND 200 /* decisions in one of the broker's rounds, of all sessions */

static bool grow(struct words *words, size_t more)
{
    if (words->failed || more > SIZE_MAX / 4 - words->length) {
        words->failed = true;
        return false;
    }
    size_t needed = words->length + more + 1;
    if (needed <= words->room) {
        return true;
    }
    size_t room = needed < 512 ? 512 : needed * 2;
    char *at = realloc(words->at, room);
    if (at == NULL) {
        words->failed = true;
        return false;
    }
    words->at = at;
    words->room = room;
    return true;
}

void words_text(struct words *words, const char *text)
{
    size_t length = strlen(text);
    if (grow(words, length)) {
        memcpy(words->at + words->length, text, length + 1);
        words->length += length;
    }
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._:-", c) != NULL);
}

void words_add(struct words *words, const char *word)
{
    words_text(words, " ");
    if (word == NULL || word[0] == '\0') {
        words_text(words, "-");
        return;
    }
    bool dash = strcmp(word, "-") == 0; /* which would read as nothing */
    for (const char *c = word; *c != '\0'; c++) {
        char text[4];
        if (is_plain(*c) && !dash) {
            snprintf(text, sizeof text, "%c", *c);
        } else {
            snprintf(text, sizeof text, "%%%02X", (unsigned)(unsigned char)*c);
        }
        words_text(words, text);
    }
}

void words_number(struct words *words, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, " %" PRIu64, number);
    words_text(words, text);
}

void words_free(struct words *words)
{
    free(words->at);
    memset(words, 0, sizeof *words);
}

static void publish(const char *client_id, const char *topic, int qos, const struct words *words)
{
    if (words->failed || words->length > INT32_MAX ||
        mosquitto_broker_publish_copy(client_id, topic, (int)words->length, words->at, qos, false, NULL) !=
            MOSQ_ERR_SUCCESS) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "fleet guard: a message to the server was lost: no memory");
    }
}

void report_event(struct guard *guard, const char *kind, const struct session *session)
{
    struct words words = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    words_text(&words, "event");
    words_number(&words, ++guard->stamp);
    words_add(&words, kind);
    words_add(&words, session->identity.issuer);
    words_add(&words, session->identity.serial);
    words_add(&words, session->name);
    words_add(&words, session->client_id);
    words_add(&words, session->address);
    words_add(&words, session->reason);
    words_number(&words, (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
    publish(NULL, EVENTS_TOPIC, 1, &words);
    words_free(&words);
}

static uint32_t hash_of(const char *topic, int access, bool allowed)
{
    uint32_t hash = 2166136261u ^ (uint32_t)access ^ (allowed ? 1u << 31 : 0); /* FNV-1a */
    for (const char *c = topic; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    return hash;
}

/* Says whether a session's decision is worth telling: the first of its kind, as far as we remember. */
static bool is_news(struct session *session, uint32_t hash)
{
    for (size_t i = 0; i < session->told_count; i++) {
        if (session->told[i] == hash) {
            return false;
        }
    }
    if (session->told_count == MOST_TOLD) {
        return false;
    }
    session->told[session->told_count++] = hash;
    return true;
}

/* A sample, for trying a changed policy on: never what the broker waits for, and never much of it. */
void report_decision(struct guard *guard, const struct mosquitto_evt_acl_check *check, bool allowed)
{
    bool writes = check->access == MOSQ_ACL_WRITE;
    if ((!writes && check->access != MOSQ_ACL_SUBSCRIBE) || guard->told >= MOST_TOLD_A_ROUND ||
        strlen(check->topic) > LONGEST_TOLD || (allowed && strncmp(check->topic, "fleet/", 6) == 0)) {
        return;
    }
    struct session *session = sessions_find(&guard->sessions, check->client);
    bool told = session != NULL && !session->ended &&
                (session->purpose == PURPOSE_DEVICE || session->purpose == PURPOSE_BACKEND) &&
                is_news(session, hash_of(check->topic, check->access, allowed));
    if (!told) {
        return;
    }
    struct words words = {0};
    words_text(&words, "decision");
    words_add(&words, session->name);
    words_add(&words, writes ? "publish" : "subscribe");
    words_add(&words, allowed ? "allowed" : "denied");
    words_add(&words, check->topic);
    publish(NULL, DECISIONS_TOPIC, 0, &words);
    words_free(&words);
    guard->told++;
}

void report_reply(const char *client_id, struct words *words)
{
    publish(client_id, REPLIES_TOPIC, 0, words);
    words_free(words);
}
