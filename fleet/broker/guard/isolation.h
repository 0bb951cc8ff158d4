/* Reads and writes the topics under which each connection's messages on shared topics travel; the other
 * reading of fleet/core/isolation.py:
 *
 *   $fleet/aws/<issuer>/<serial>/<client id, hex>/<run>-<number>/{request,response}/$aws/...
 *
 * It touches no broker: text in, text out, within its bounds.
 */
#ifndef FLEET_GUARD_ISOLATION_H
#define FLEET_GUARD_ISOLATION_H

#include "rules.h"

#define SHARED_PREFIX "$aws/"
#define INSIDE_PREFIX "$fleet/aws/"
#define RUN_DIGITS 16

/* One connection that asks on shared topics. */
struct shared_link {
    struct span issuer; /* lower-case hex, as `serial` is */
    struct span serial;
    struct span run; /* which run of the broker */
    uint64_t number; /* which connection of it */
    size_t client_id_length;
    char client_id[LONGEST_CLIENT_ID + 1]; /* ends in NUL, and holds no other */
};

bool isolation_is_shared(struct span topic);
bool isolation_is_inside(struct span topic);

/* Reads the topic of an answer; `shared` is where the connection hears it, the end of `topic`. */
bool isolation_read_answer(struct span topic, struct shared_link *link, struct span *shared);

/* Returns how long the topic of a request is, without the NUL, and writes as much of it as fits. */
size_t isolation_write_request(const struct shared_link *link, struct span shared, char *at, size_t room);

#endif
