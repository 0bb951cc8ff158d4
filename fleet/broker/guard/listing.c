/* Reads the whole list, its journal, and one change; see listing.h. */
#include "listing.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ENTRIES 20000000u

struct line_digest {
    uint8_t bytes[DIGEST_SIZE];
};

static struct line_digest digest_of(struct span line)
{
    struct line_digest digest;
    SHA256((const unsigned char *)line.at, line.length, digest.bytes);
    return digest;
}

static bool read_key(struct span *line, struct key *key)
{
    struct span issuer, serial;
    size_t issuer_length;
    memset(key, 0, sizeof *key);
    if (!next_word(line, &issuer) || !read_hex_up_to(issuer, key->issuer, LONGEST_ISSUER, &issuer_length) ||
        !next_word(line, &serial) || !key_read_serial(serial, key)) {
        return false;
    }
    key->issuer_length = (uint8_t)issuer_length;
    return true;
}

/* Every letter of a name is safe inside a topic level and inside a client id. */
static bool is_name(struct span word)
{
    for (size_t i = 0; i < word.length; i++) {
        char c = word.at[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    c == ':' || c == '-' || c == '.';
        if (!good) {
            return false;
        }
    }
    return word.length > 0 && word.length <= LONGEST_NAME;
}

static enum reading read_entry(struct span line, struct entry **entry)
{
    struct key key;
    uint8_t fingerprint[FINGERPRINT_SIZE];
    struct span word, name;
    enum purpose purpose;
    uint64_t not_after, access;
    if (!read_key(&line, &key) || !next_word(&line, &word) ||
        !read_hex(word, fingerprint, FINGERPRINT_SIZE) || !next_word(&line, &word) ||
        !purpose_of(word, &purpose) || !next_word(&line, &word) || !read_number(word, &not_after) ||
        !next_word(&line, &word) || !read_number(word, &access) || !last_word(&line, &name) || !is_name(name)) {
        return READING_MALFORMED;
    }
    *entry = entry_new(&key, fingerprint, purpose, (int64_t)not_after, access, name);
    return *entry != NULL ? READING_DONE : READING_MEMORY;
}

/* Checks `end <SHA-256>`, where the digest is of everything from `start` up to that line. */
static bool read_end(const char *start, struct span *text)
{
    const char *end = text->at;
    struct span line, word;
    uint8_t announced[SHA256_DIGEST_LENGTH];
    if (!next_line(text, &line) || !next_word(&line, &word) || !span_is(word, "end") ||
        !last_word(&line, &word) || !read_hex(word, announced, sizeof announced)) {
        return false;
    }
    struct line_digest found = digest_of((struct span){.at = start, .length = (size_t)(end - start)});
    return memcmp(found.bytes, announced, sizeof announced) == 0;
}

static enum reading read_entries(struct span *text, uint64_t count, struct allowlist *list)
{
    for (uint64_t i = 0; i < count; i++) {
        struct span line;
        struct entry *entry;
        if (!next_line(text, &line)) {
            return READING_MALFORMED;
        }
        enum reading result = read_entry(line, &entry);
        if (result != READING_DONE) {
            return result;
        }
        if (!allowlist_add(list, entry, digest_of(line).bytes)) {
            free(entry);
            return READING_MALFORMED; /* the same certificate twice */
        }
    }
    return READING_DONE;
}

static bool read_list_head(struct span *text, uint8_t *generation, uint64_t *sequence, uint64_t *count)
{
    struct span line, word;
    return next_line(text, &line) && next_word(&line, &word) && span_is(word, "fleet-allowlist") &&
           next_word(&line, &word) && span_is(word, "2") && next_word(&line, &word) &&
           read_hex(word, generation, GENERATION_SIZE) && next_word(&line, &word) &&
           read_number(word, sequence) && last_word(&line, &word) && read_number(word, count) &&
           *count <= MOST_ENTRIES;
}

enum reading listing_read(struct span text, struct allowlist **list)
{
    const char *start = text.at;
    uint8_t generation[GENERATION_SIZE];
    uint64_t sequence, count;
    *list = NULL;
    /* An entry takes more than 120 characters: a count that the text cannot hold must not reserve memory. */
    if (!read_list_head(&text, generation, &sequence, &count) || count > text.length / 120 + 1) {
        return READING_MALFORMED;
    }
    struct allowlist *made = allowlist_new((size_t)count);
    if (made == NULL) {
        return READING_MEMORY;
    }
    memcpy(made->generation, generation, GENERATION_SIZE);
    made->sequence = sequence;
    enum reading result = read_entries(&text, count, made);
    if (result == READING_DONE && (!read_end(start, &text) || text.length != 0)) {
        result = READING_MALFORMED;
    }
    if (result != READING_DONE) {
        allowlist_free(made);
        return result;
    }
    *list = made;
    return READING_DONE;
}

/* One change, parsed and not yet applied. */
struct change {
    uint8_t generation[GENERATION_SIZE];
    uint64_t sequence;
    size_t added;
    size_t removed;
    struct entry **entries; /* the added ones, then the removed ones */
    struct line_digest *digests;
};

static void change_free(struct change *change)
{
    for (size_t i = 0; change->entries != NULL && i < change->added + change->removed; i++) {
        free(change->entries[i]);
    }
    free(change->entries);
    free(change->digests);
}

static bool read_change_head(struct span *text, struct change *change)
{
    struct span line, word;
    uint64_t added, removed;
    if (!next_line(text, &line) || !next_word(&line, &word) || !span_is(word, "change") ||
        !next_word(&line, &word) || !read_hex(word, change->generation, GENERATION_SIZE) ||
        !next_word(&line, &word) || !read_number(word, &change->sequence) || !next_word(&line, &word) ||
        !read_number(word, &added) || !last_word(&line, &word) || !read_number(word, &removed) ||
        added > text->length / 120 || removed > text->length / 120) {
        return false;
    }
    change->added = (size_t)added;
    change->removed = (size_t)removed;
    return true;
}

static enum reading read_change(struct span *text, struct change *change)
{
    const char *start = text->at;
    memset(change, 0, sizeof *change);
    if (!read_change_head(text, change)) {
        return READING_MALFORMED;
    }
    size_t count = change->added + change->removed;
    change->entries = calloc(count + 1, sizeof *change->entries);
    change->digests = calloc(count + 1, sizeof *change->digests);
    if (change->entries == NULL || change->digests == NULL) {
        return READING_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        struct span line;
        if (!next_line(text, &line)) {
            return READING_MALFORMED;
        }
        enum reading result = read_entry(line, &change->entries[i]);
        if (result != READING_DONE) {
            return result;
        }
        change->digests[i] = digest_of(line);
    }
    return read_end(start, text) ? READING_DONE : READING_MALFORMED;
}

static bool is_held(const struct allowlist *list, const struct entry *named)
{
    const struct entry *found = allowlist_find(list, &named->key);
    return found != NULL && memcmp(found->fingerprint, named->fingerprint, FINGERPRINT_SIZE) == 0;
}

/* Removes first, then adds: an entry may take the place of the one with its key. Nobody asks in between.
 * Undone as a whole if one does not fit. */
static bool apply(struct allowlist *list, struct change *change, struct entry **removed)
{
    struct entry **leaving = change->entries + change->added;
    const struct line_digest *leaving_digests = change->digests + change->added;
    size_t gone = 0, come = 0;
    while (gone < change->removed && is_held(list, leaving[gone])) {
        struct entry *taken = allowlist_remove(list, &leaving[gone]->key, leaving_digests[gone].bytes);
        gone++;
        taken->next_by_key = *removed;
        *removed = taken;
    }
    while (gone == change->removed && come < change->added &&
           allowlist_add(list, change->entries[come], change->digests[come].bytes)) {
        come++;
    }
    if (gone == change->removed && come == change->added) {
        memset(change->entries, 0, change->added * sizeof *change->entries); /* the list owns these now */
        return true;
    }
    while (come-- > 0) {
        allowlist_remove(list, &change->entries[come]->key, change->digests[come].bytes);
    }
    while (gone-- > 0) {
        struct entry *taken = *removed;
        *removed = taken->next_by_key;
        allowlist_add(list, taken, leaving_digests[gone].bytes);
    }
    return false;
}

static enum reading apply_next(struct allowlist *list, struct change *change, struct entry **removed)
{
    *removed = NULL;
    if (memcmp(change->generation, list->generation, GENERATION_SIZE) != 0 ||
        change->sequence != list->sequence + 1 || !apply(list, change, removed)) {
        return READING_GAP;
    }
    list->sequence = change->sequence;
    return READING_DONE;
}

enum reading listing_change(struct allowlist *list, struct span *text, struct entry **removed)
{
    struct change change;
    *removed = NULL;
    enum reading result = read_change(text, &change);
    if (result == READING_DONE) {
        result = apply_next(list, &change, removed);
    }
    change_free(&change);
    return result;
}

enum reading listing_replay(struct allowlist *list, struct span text)
{
    enum reading result = READING_DONE;
    while (result == READING_DONE && text.length > 0) {
        struct change change;
        result = read_change(&text, &change);
        bool held = memcmp(change.generation, list->generation, GENERATION_SIZE) == 0 &&
                    change.sequence <= list->sequence;
        if (result == READING_DONE && !held) {
            struct entry *removed;
            result = apply_next(list, &change, &removed);
            listing_free_removed(removed);
        }
        change_free(&change);
    }
    return result;
}

void listing_free_removed(struct entry *removed)
{
    while (removed != NULL) {
        struct entry *next = removed->next_by_key;
        free(removed);
        removed = next;
    }
}
