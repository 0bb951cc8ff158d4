/* Who may connect how, and which topics are whose: the compiled form of fleet/core/access.py.
 *
 * What no rule allows is refused: other purposes, wildcards wider than a rule, shared subscriptions.
 */
#ifndef FLEET_GUARD_RULES_H
#define FLEET_GUARD_RULES_H

#include "text.h"

enum purpose { PURPOSE_DEVICE, PURPOSE_CLAIM, PURPOSE_SERVICE, PURPOSE_BACKEND, PURPOSES };
enum action { ACTION_PUBLISH, ACTION_SUBSCRIBE, ACTIONS };
enum effect { EFFECT_ALLOW, EFFECT_DENY, EFFECTS };

/* What a client id must be: the user name; the user name or a part of it, `<name>.<word>`; hex SHA-256; or
 * whatever is neither a device's name nor a hex SHA-256. */
enum client_form { CLIENT_IS_NAME, CLIENT_IS_PART, CLIENT_IS_SHA256, CLIENT_IS_OTHER, CLIENT_FORMS };

/* What a connection may leave behind; without LEAVES_ALL, no retained message. */
enum leaves { LEAVES_NOTHING, LEAVES_SESSION, LEAVES_ALL, LEAVES };

struct connect_rule {
    enum purpose purpose;
    enum client_form form;
    uint64_t longest_keepalive_s; /* 0 is no limit */
    enum leaves leaves;
};

#define LONGEST_CLIENT_ID 128
#define LONGEST_DOMAIN 32
#define MOST_CONNECTS 8
#define MOST_RULES 64
#define LONGEST_PATTERN 256

struct topic_rule {
    enum purpose purpose;
    enum action action;
    size_t length;
    char pattern[LONGEST_PATTERN];
};

/* What the access policy says of a topic. */
struct grant {
    enum effect effect;
    enum action action;
    struct span pattern; /* in the text that the rules own */
};

/* What it says to all certificates of a class; classes that it treats alike share a set. */
struct grant_set {
    enum purpose purpose;
    size_t first;
    size_t count;
};

struct access_class {
    uint64_t number;
    size_t set;
};

struct rules {
    size_t connect_count;
    struct connect_rule connects[MOST_CONNECTS];
    size_t count;
    struct topic_rule topics[MOST_RULES];
    char *text;
    struct grant *grants;
    size_t grant_count;
    struct grant_set *sets;
    size_t set_count;
    struct access_class *classes; /* by number */
    size_t class_count;
};

/* One side of a connection, as topics see it. */
struct who {
    enum purpose purpose;
    uint64_t access; /* its class of the access policy */
    struct span name;
    struct span serial;
    struct span client;
};

bool purpose_of(struct span word, enum purpose *purpose);

/* Reads the text that access.py compiles: header, rules, `end <count>`. False leaves `rules` empty. */
bool rules_read(struct rules *rules, struct span text);
void rules_free(struct rules *rules);

/* Says whether certificates of a purpose connect at all. */
bool rules_connects(const struct rules *rules, enum purpose purpose);

/* The rule of purpose and client id: the first that fits, or NULL. */
const struct connect_rule *rules_connect(const struct rules *rules, const struct who *who);

/* Says whether a client id has a form that its purpose may use. */
bool rules_client(const struct rules *rules, const struct who *who);

/* A topic name to publish to, or a message on a topic name to receive: no wildcard is a name. */
bool rules_publish(const struct rules *rules, const struct who *who, const char *topic);
bool rules_receive(const struct rules *rules, const struct who *who, const char *topic);

/* A topic filter: allowed if all that it can match is allowed by one rule. */
bool rules_subscribe(const struct rules *rules, const struct who *who, const char *filter);

#endif
