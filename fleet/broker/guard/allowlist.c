/* The certificates that are admitted; see allowlist.h. */
#include "allowlist.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define FEWEST_BUCKETS 64

static uint64_t hash_of(uint64_t seed, const void *bytes, size_t length)
{
    const uint8_t *byte = bytes;
    uint64_t hash = 1469598103934665603ULL ^ seed; /* FNV-1a, seeded: names are chosen by people */
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ byte[i]) * 1099511628211ULL;
    }
    return hash ^ (hash >> 32);
}

static size_t key_bucket(const struct allowlist *list, const struct key *key)
{
    uint64_t hash = hash_of(list->seed, key->serial, SERIAL_SIZE) ^
                    hash_of(list->seed, key->issuer, key->issuer_length);
    return (size_t)(hash & (list->buckets - 1));
}

static size_t name_bucket(const struct allowlist *list, const char *name, size_t length)
{
    return (size_t)(hash_of(list->seed, name, length) & (list->buckets - 1));
}

static bool same_key(const struct key *one, const struct key *other)
{
    return one->issuer_length == other->issuer_length &&
           memcmp(one->serial, other->serial, SERIAL_SIZE) == 0 &&
           memcmp(one->issuer, other->issuer, one->issuer_length) == 0;
}

static bool is_longer_than_ours(const struct key *key)
{
    static const uint8_t nothing[SERIAL_SIZE - OUR_SERIAL_SIZE];
    return memcmp(key->serial, nothing, sizeof nothing) != 0;
}

void key_serial_text(const struct key *key, char *text)
{
    size_t skipped = is_longer_than_ours(key) ? 0 : SERIAL_SIZE - OUR_SERIAL_SIZE;
    write_hex(key->serial + skipped, SERIAL_SIZE - skipped, text);
}

bool key_read_serial(struct span word, struct key *key)
{
    memset(key->serial, 0, SERIAL_SIZE);
    if (word.length == 2 * OUR_SERIAL_SIZE) {
        return read_hex(word, key->serial + SERIAL_SIZE - OUR_SERIAL_SIZE, OUR_SERIAL_SIZE);
    }
    return read_hex(word, key->serial, SERIAL_SIZE) && is_longer_than_ours(key);
}

struct allowlist *allowlist_new(size_t expected)
{
    struct allowlist *list = calloc(1, sizeof *list);
    if (list == NULL) {
        return NULL;
    }
    list->buckets = FEWEST_BUCKETS;
    while (list->buckets < expected && list->buckets < ((size_t)1 << 32)) {
        list->buckets *= 2;
    }
    list->by_key = calloc(list->buckets, sizeof *list->by_key);
    list->by_name = calloc(list->buckets, sizeof *list->by_name);
    if (list->by_key == NULL || list->by_name == NULL ||
        RAND_bytes((unsigned char *)&list->seed, sizeof list->seed) != 1) {
        allowlist_free(list);
        return NULL;
    }
    return list;
}

void allowlist_free(struct allowlist *list)
{
    if (list == NULL) {
        return;
    }
    for (size_t i = 0; list->by_key != NULL && i < list->buckets; i++) {
        for (struct entry *entry = list->by_key[i], *next; entry != NULL; entry = next) {
            next = entry->next_by_key;
            free(entry);
        }
    }
    free(list->by_key);
    free(list->by_name);
    free(list);
}

struct entry *entry_new(const struct key *key, const uint8_t *fingerprint, enum purpose purpose,
                        int64_t not_after, uint64_t access, struct span name)
{
    struct entry *entry = calloc(1, sizeof *entry + name.length + 1);
    if (entry == NULL) {
        return NULL;
    }
    entry->key = *key;
    memcpy(entry->fingerprint, fingerprint, FINGERPRINT_SIZE);
    entry->purpose = purpose;
    entry->not_after = not_after;
    entry->access = access;
    entry->name_length = name.length;
    memcpy(entry->name, name.at, name.length);
    return entry;
}

static void link_entry(struct allowlist *list, struct entry *entry)
{
    struct entry **by_key = &list->by_key[key_bucket(list, &entry->key)];
    struct entry **by_name = &list->by_name[name_bucket(list, entry->name, entry->name_length)];
    entry->next_by_key = *by_key;
    *by_key = entry;
    entry->next_by_name = *by_name;
    *by_name = entry;
}

/* Grows by doubling; a list that cannot grow goes on with longer chains. */
static void grow(struct allowlist *list)
{
    size_t old_buckets = list->buckets;
    struct entry **old_by_key = list->by_key;
    struct entry **by_key = calloc(old_buckets * 2, sizeof *by_key);
    struct entry **by_name = calloc(old_buckets * 2, sizeof *by_name);
    if (by_key == NULL || by_name == NULL) {
        free(by_key);
        free(by_name);
        return;
    }
    free(list->by_name);
    list->by_key = by_key;
    list->by_name = by_name;
    list->buckets = old_buckets * 2;
    for (size_t i = 0; i < old_buckets; i++) {
        for (struct entry *entry = old_by_key[i], *next; entry != NULL; entry = next) {
            next = entry->next_by_key;
            link_entry(list, entry);
        }
    }
    free(old_by_key);
}

/* 256-bit numbers, big-endian. */
static void digest_add(uint8_t *sum, const uint8_t *term)
{
    unsigned carry = 0;
    for (size_t i = DIGEST_SIZE; i-- > 0;) {
        carry += (unsigned)sum[i] + term[i];
        sum[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

static void digest_subtract(uint8_t *sum, const uint8_t *term)
{
    unsigned borrow = 0;
    for (size_t i = DIGEST_SIZE; i-- > 0;) {
        unsigned value = 256u + sum[i] - term[i] - borrow;
        sum[i] = (uint8_t)value;
        borrow = value < 256u;
    }
}

bool allowlist_add(struct allowlist *list, struct entry *entry, const uint8_t *digest)
{
    if (allowlist_find(list, &entry->key) != NULL) {
        return false;
    }
    if (list->count >= list->buckets) {
        grow(list);
    }
    link_entry(list, entry);
    list->count++;
    digest_add(list->digest, digest);
    return true;
}

static struct entry *unlink_by_key(struct allowlist *list, const struct key *key)
{
    struct entry **place = &list->by_key[key_bucket(list, key)];
    while (*place != NULL && !same_key(&(*place)->key, key)) {
        place = &(*place)->next_by_key;
    }
    struct entry *found = *place;
    if (found != NULL) {
        *place = found->next_by_key;
    }
    return found;
}

struct entry *allowlist_remove(struct allowlist *list, const struct key *key, const uint8_t *digest)
{
    struct entry *found = unlink_by_key(list, key);
    if (found == NULL) {
        return NULL;
    }
    struct entry **place = &list->by_name[name_bucket(list, found->name, found->name_length)];
    while (*place != found) {
        place = &(*place)->next_by_name;
    }
    *place = found->next_by_name;
    list->count--;
    digest_subtract(list->digest, digest);
    return found;
}

const struct entry *allowlist_find(const struct allowlist *list, const struct key *key)
{
    const struct entry *entry = list->by_key[key_bucket(list, key)];
    while (entry != NULL && !same_key(&entry->key, key)) {
        entry = entry->next_by_key;
    }
    return entry;
}

const struct entry *allowlist_named(const struct allowlist *list, struct span name, const struct entry *from)
{
    const struct entry *entry =
        from != NULL ? from->next_by_name : list->by_name[name_bucket(list, name.at, name.length)];
    while (entry != NULL &&
           !span_equals(name, (struct span){.at = entry->name, .length = entry->name_length})) {
        entry = entry->next_by_name;
    }
    return entry;
}
