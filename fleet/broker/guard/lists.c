/* Puts a list and rules into force; see guard.h.
 *
 * A file that is missing, torn or garbage never replaces the list in force, and says so in the broker's log.
 */
#include "guard.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_FILE ((size_t)4 << 30)

static char *read_open_file(FILE *file, size_t *length)
{
    size_t room = 64 * 1024, used = 0;
    char *text = malloc(room);
    while (text != NULL) {
        used += fread(text + used, 1, room - used, file);
        if (used < room) {
            break;
        }
        char *larger = room < LARGEST_FILE ? realloc(text, room * 2) : NULL;
        if (larger == NULL) {
            free(text);
            return NULL;
        }
        text = larger;
        room *= 2;
    }
    if (text != NULL && ferror(file)) {
        free(text);
        return NULL;
    }
    *length = used;
    return text;
}

char *read_whole_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    char *text = read_open_file(file, length);
    fclose(file);
    return text;
}

bool lists_load_rules(struct guard *guard)
{
    size_t length;
    struct rules rules;
    char *text = guard->rules_path != NULL ? read_whole_file(guard->rules_path, &length) : NULL;
    bool good = text != NULL && rules_read(&rules, (struct span){.at = text, .length = length});
    if (good) {
        rules_free(&guard->rules);
        guard->rules = rules;
        SHA256((const unsigned char *)text, length, guard->rules_digest);
        live_forget_told(guard);
    }
    free(text);
    return good;
}

/* The journal holds what changed since the list was written. One that is torn, or of another list, ends
 * early: then the server sends the whole list, as it sees from the sequence number that it must. */
static void replay_journal(const struct guard *guard, struct allowlist *list)
{
    size_t length;
    char *text = read_whole_file(guard->journal_path, &length);
    if (text == NULL) {
        return;
    }
    if (listing_replay(list, (struct span){.at = text, .length = length}) != READING_DONE) {
        mosquitto_log_printf(MOSQ_LOG_WARNING, "fleet guard: the journal ends early, at change %llu",
                             (unsigned long long)list->sequence);
    }
    free(text);
}

static const char *read_list(const struct guard *guard, struct allowlist **list)
{
    size_t length;
    char *text = read_whole_file(guard->list_path, &length);
    if (text == NULL) {
        return "the list cannot be read";
    }
    enum reading result = listing_read((struct span){.at = text, .length = length}, list);
    free(text);
    if (result == READING_MEMORY) {
        return "no memory for the list";
    }
    return result == READING_DONE ? NULL : "the list is malformed";
}

const char *lists_load(struct guard *guard)
{
    struct allowlist *list = NULL;
    const char *problem = read_list(guard, &list);
    if (problem != NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "fleet guard: %s: %s; %s", guard->list_path, problem,
                             guard->list != NULL ? "the old one stays in force" : "everything is refused");
        return problem;
    }
    replay_journal(guard, list);
    allowlist_free(guard->list);
    guard->list = list;
    live_classify(guard);
    live_end_unlisted(guard, "removed");
    mosquitto_log_printf(MOSQ_LOG_NOTICE, "fleet guard: %zu certificates admitted, change %llu", list->count,
                         (unsigned long long)list->sequence);
    return NULL;
}

void lists_load_if_other(struct guard *guard)
{
    struct allowlist *list = NULL;
    bool other = read_list(guard, &list) == NULL &&
                 (guard->list == NULL ||
                  memcmp(list->generation, guard->list->generation, GENERATION_SIZE) != 0);
    allowlist_free(list);
    if (other) {
        lists_load(guard);
    }
}
