/* The certificates that are admitted, found by (issuer, serial), or by name.
 *
 * It never answers on a hash alone: issuer, serial and the leaf's SHA-256 are all compared.
 */
#ifndef FLEET_GUARD_ALLOWLIST_H
#define FLEET_GUARD_ALLOWLIST_H

#include "rules.h"

#define LONGEST_ISSUER 32
#define SERIAL_SIZE 20 /* RFC 5280 4.1.2.2: at most 20 octets; ours have 16 */
#define OUR_SERIAL_SIZE 16
#define SERIAL_TEXT (2 * SERIAL_SIZE + 1)
#define FINGERPRINT_SIZE 32
#define LONGEST_NAME 128
#define GENERATION_SIZE 8
#define DIGEST_SIZE 32

/* Issuer (key identifier) and serial number: what a certificate is called. */
struct key {
    uint8_t issuer_length;
    uint8_t issuer[LONGEST_ISSUER];
    uint8_t serial[SERIAL_SIZE]; /* from the right, zeros before it */
};

struct entry {
    struct key key;
    uint8_t fingerprint[FINGERPRINT_SIZE];
    int64_t not_after; /* seconds since 1970 */
    enum purpose purpose;
    uint64_t access; /* its class of the access policy */
    struct entry *next_by_key;
    struct entry *next_by_name;
    size_t name_length;
    char name[]; /* ends in NUL */
};

struct allowlist {
    uint8_t generation[GENERATION_SIZE]; /* which whole list this one started from */
    uint64_t sequence;
    size_t count;
    uint8_t digest[DIGEST_SIZE]; /* sum of the entries' SHA-256, modulo 2^256: the same in any order */
    uint64_t seed;
    size_t buckets; /* a power of two */
    struct entry **by_key;
    struct entry **by_name;
};

/* Writes a serial number in hex: 32 digits, or 40 where it has more than 16 octets. */
void key_serial_text(const struct key *key, char *text);

/* Reads one that was written so; false for anything else. */
bool key_read_serial(struct span word, struct key *key);

/* NULL when memory is short. `expected` entries fit without growing. */
struct allowlist *allowlist_new(size_t expected);
void allowlist_free(struct allowlist *list);

/* Makes an entry; NULL when memory is short. */
struct entry *entry_new(const struct key *key, const uint8_t *fingerprint, enum purpose purpose,
                        int64_t not_after, uint64_t access, struct span name);

/* Takes the entry over. False, and the entry stays the caller's, if its key is there already. `digest` is the
 * SHA-256 of the entry's line. */
bool allowlist_add(struct allowlist *list, struct entry *entry, const uint8_t *digest);

/* Takes an entry out; the caller frees it. NULL if it is not there. */
struct entry *allowlist_remove(struct allowlist *list, const struct key *key, const uint8_t *digest);

const struct entry *allowlist_find(const struct allowlist *list, const struct key *key);

/* The first entry of a name, then the next one: `from` is the one before, or NULL. */
const struct entry *allowlist_named(const struct allowlist *list, struct span name, const struct entry *from);

#endif
