/* Topics of single connections; see isolation.h. */
#include "isolation.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool begins(struct span text, const char *with)
{
    size_t length = strlen(with);
    return text.length >= length && memcmp(text.at, with, length) == 0;
}

bool isolation_is_shared(struct span topic)
{
    return begins(topic, SHARED_PREFIX);
}

bool isolation_is_inside(struct span topic)
{
    return begins(topic, INSIDE_PREFIX);
}

static void skip(struct span *text, size_t length)
{
    text->at += length;
    text->length -= length;
}

static bool take_level(struct span *rest, struct span *level)
{
    const char *slash = rest->length ? memchr(rest->at, '/', rest->length) : NULL;
    if (slash == NULL) {
        return false;
    }
    *level = (struct span){.at = rest->at, .length = (size_t)(slash - rest->at)};
    skip(rest, level->length + 1);
    return true;
}

static bool is_hex(struct span word, size_t longest)
{
    uint8_t bytes[LONGEST_CLIENT_ID];
    size_t length;
    return longest <= sizeof bytes && read_hex_up_to(word, bytes, longest, &length);
}

static bool read_client_id(struct span word, struct shared_link *link)
{
    if (!read_hex_up_to(word, (uint8_t *)link->client_id, LONGEST_CLIENT_ID, &link->client_id_length)) {
        return false;
    }
    link->client_id[link->client_id_length] = '\0';
    return strlen(link->client_id) == link->client_id_length;
}

/* <run>-<number> */
static bool read_name(struct span word, struct shared_link *link)
{
    if (word.length < RUN_DIGITS + 2 || word.at[RUN_DIGITS] != '-') {
        return false;
    }
    link->run = (struct span){.at = word.at, .length = RUN_DIGITS};
    skip(&word, RUN_DIGITS + 1);
    return is_hex(link->run, RUN_DIGITS / 2) && read_number(word, &link->number);
}

bool isolation_read_answer(struct span topic, struct shared_link *link, struct span *shared)
{
    struct span client, name, way;
    if (!isolation_is_inside(topic)) {
        return false;
    }
    skip(&topic, strlen(INSIDE_PREFIX));
    if (!take_level(&topic, &link->issuer) || !is_hex(link->issuer, 32) ||
        !take_level(&topic, &link->serial) || link->serial.length != 32 || !is_hex(link->serial, 16) ||
        !take_level(&topic, &client) || !read_client_id(client, link) || !take_level(&topic, &name) ||
        !read_name(name, link) || !take_level(&topic, &way) || !span_is(way, "response")) {
        return false;
    }
    *shared = topic;
    return isolation_is_shared(topic);
}

size_t isolation_write_request(const struct shared_link *link, struct span shared, char *at, size_t room)
{
    char client[2 * LONGEST_CLIENT_ID + 1];
    write_hex((const uint8_t *)link->client_id, link->client_id_length, client);
    int length = snprintf(at, room, INSIDE_PREFIX "%.*s/%.*s/%s/%.*s-%" PRIu64 "/request/%.*s",
                          (int)link->issuer.length, link->issuer.at, (int)link->serial.length,
                          link->serial.at, client, (int)link->run.length, link->run.at, link->number,
                          (int)shared.length, shared.at);
    return length < 0 ? 0 : (size_t)length;
}
