/* Who may connect how, and which topics are whose; see rules.h. */
#include "rules.h"

#include <string.h>

static const char *const PURPOSE_NAMES[PURPOSES] = {"device", "claim", "service"};
static const char *const ACTION_NAMES[ACTIONS] = {"publish", "subscribe"};
static const char *const FORM_NAMES[CLIENT_FORMS] = {"name", "part", "sha256", "other"};
static const char *const LEAVES_NAMES[LEAVES] = {"nothing", "session", "all"};

static bool index_of(struct span word, const char *const *names, size_t count, size_t *index)
{
    for (size_t i = 0; i < count; i++) {
        if (span_is(word, names[i])) {
            *index = i;
            return true;
        }
    }
    return false;
}

bool purpose_of(struct span word, enum purpose *purpose)
{
    size_t index;
    if (!index_of(word, PURPOSE_NAMES, PURPOSES, &index)) {
        return false;
    }
    *purpose = (enum purpose)index;
    return true;
}

/* connect <purpose> <form> <longest keepalive> <nothing|session|all> */
static bool read_connect(struct rules *rules, struct span line)
{
    struct span purpose_word, form_word, keepalive_word, leaves_word;
    enum purpose purpose;
    size_t form, leaves;
    uint64_t keepalive;
    if (rules->connect_count == MOST_CONNECTS || !next_word(&line, &purpose_word) ||
        !purpose_of(purpose_word, &purpose) || !next_word(&line, &form_word) ||
        !index_of(form_word, FORM_NAMES, CLIENT_FORMS, &form) || !next_word(&line, &keepalive_word) ||
        !read_number(keepalive_word, &keepalive) || !last_word(&line, &leaves_word) ||
        !index_of(leaves_word, LEAVES_NAMES, LEAVES, &leaves)) {
        return false;
    }
    rules->connects[rules->connect_count++] = (struct connect_rule){.purpose = purpose,
                                                                    .form = (enum client_form)form,
                                                                    .longest_keepalive_s = keepalive,
                                                                    .leaves = (enum leaves)leaves};
    return true;
}

/* topic <purpose> <publish|subscribe> <pattern> */
static bool read_topic(struct rules *rules, struct span line)
{
    struct span purpose_word, action_word, pattern;
    enum purpose purpose;
    size_t action;
    if (rules->count == MOST_RULES || !next_word(&line, &purpose_word) ||
        !purpose_of(purpose_word, &purpose) || !next_word(&line, &action_word) ||
        !index_of(action_word, ACTION_NAMES, ACTIONS, &action) || !last_word(&line, &pattern) ||
        pattern.length > LONGEST_PATTERN) {
        return false;
    }
    struct topic_rule *rule = &rules->topics[rules->count++];
    rule->purpose = purpose;
    rule->action = (enum action)action;
    rule->length = pattern.length;
    memcpy(rule->pattern, pattern.at, pattern.length);
    return true;
}

bool rules_read(struct rules *rules, struct span text)
{
    struct span line, word, count_word;
    uint64_t lines = 0, announced;
    memset(rules, 0, sizeof *rules);
    if (!next_line(&text, &line) || !span_is(line, "fleet-rules 1")) {
        return false;
    }
    while (next_line(&text, &line) && next_word(&line, &word)) {
        if (span_is(word, "end")) {
            return last_word(&line, &count_word) && read_number(count_word, &announced) &&
                   announced == lines && text.length == 0;
        }
        bool good = span_is(word, "connect") ? read_connect(rules, line)
                    : span_is(word, "topic") ? read_topic(rules, line)
                                             : false;
        if (!good) {
            return false;
        }
        lines++;
    }
    return false;
}

static bool is_sha256(struct span text)
{
    uint8_t bytes[32];
    return read_hex(text, bytes, sizeof bytes);
}

static bool is_part_of(struct span client, struct span name)
{
    if (span_equals(client, name)) {
        return true;
    }
    /* `.` stands in no device's name, so none can be called as a part of the server is. */
    if (client.length < name.length + 2 || client.length > name.length + 33 ||
        memcmp(client.at, name.at, name.length) != 0 || client.at[name.length] != '.') {
        return false;
    }
    for (size_t i = name.length + 1; i < client.length; i++) {
        char c = client.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
            return false;
        }
    }
    return true;
}

static bool begins_with_domain(struct span client)
{
    for (size_t i = 0; i < client.length && i <= LONGEST_DOMAIN; i++) {
        char c = client.at[i];
        if (c == ':') {
            return i > 0;
        }
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
            return false;
        }
    }
    return false;
}

/* Client ids are one space for both listeners: none of these may be a device's, `<domain>:<id>`. */
static bool is_other(struct span client)
{
    for (size_t i = 0; i < client.length; i++) {
        if ((unsigned char)client.at[i] < 0x20 || client.at[i] == 0x7f) {
            return false;
        }
    }
    return client.length > 0 && client.length <= LONGEST_CLIENT_ID && !is_sha256(client) &&
           !begins_with_domain(client);
}

static bool has_form(const struct who *who, enum client_form form)
{
    switch (form) {
    case CLIENT_IS_NAME:
        return span_equals(who->client, who->name);
    case CLIENT_IS_PART:
        return is_part_of(who->client, who->name);
    case CLIENT_IS_SHA256:
        return is_sha256(who->client);
    case CLIENT_IS_OTHER:
        return is_other(who->client);
    default:
        return false;
    }
}

bool rules_connects(const struct rules *rules, enum purpose purpose)
{
    for (size_t i = 0; i < rules->connect_count; i++) {
        if (rules->connects[i].purpose == purpose) {
            return true;
        }
    }
    return false;
}

const struct connect_rule *rules_connect(const struct rules *rules, const struct who *who)
{
    for (size_t i = 0; i < rules->connect_count; i++) {
        const struct connect_rule *rule = &rules->connects[i];
        if (rule->purpose == who->purpose && has_form(who, rule->form)) {
            return rule;
        }
    }
    return NULL;
}

bool rules_client(const struct rules *rules, const struct who *who)
{
    return rules_connect(rules, who) != NULL;
}

static struct span take_level(struct span *rest, bool *more)
{
    struct span level = {.at = rest->at, .length = 0};
    while (level.length < rest->length && rest->at[level.length] != '/') {
        level.length++;
    }
    *more = level.length < rest->length;
    size_t taken = *more ? level.length + 1 : level.length;
    rest->at += taken;
    rest->length -= taken;
    return level;
}

/* The broker name is `<domain>:<id>`; an id may hold more colons, a domain holds none. */
static struct span part_of_name(struct span name, bool domain)
{
    const char *colon = name.length ? memchr(name.at, ':', name.length) : NULL;
    if (colon == NULL) {
        return (struct span){.at = name.at, .length = 0};
    }
    size_t before = (size_t)(colon - name.at);
    return domain ? (struct span){.at = name.at, .length = before}
                  : (struct span){.at = colon + 1, .length = name.length - before - 1};
}

/* Puts what the connection is into `{...}`. An unknown or empty value matches nothing. */
static struct span filled(struct span level, const struct who *who)
{
    if (level.length == 0 || level.at[0] != '{') {
        return level;
    }
    if (span_is(level, "{domain}")) {
        return part_of_name(who->name, true);
    }
    if (span_is(level, "{id}")) {
        return part_of_name(who->name, false);
    }
    if (span_is(level, "{serial}")) {
        return who->serial;
    }
    bool is_key = span_is(level, "{client}") && is_sha256(who->client);
    return is_key ? who->client : (struct span){.at = level.at, .length = 0};
}

static bool is_wild(struct span level)
{
    return (level.length && memchr(level.at, '+', level.length)) ||
           (level.length && memchr(level.at, '#', level.length));
}

static bool level_covers(struct span pattern, struct span level, const struct who *who)
{
    if (span_is(pattern, "+")) {
        return span_is(level, "+") || !is_wild(level);
    }
    struct span wanted = filled(pattern, who);
    return wanted.length > 0 && !is_wild(level) && span_equals(wanted, level);
}

/* True if everything that `filter` can match is matched by `pattern` too. */
static bool covers(struct span pattern, struct span filter, const struct who *who)
{
    bool pattern_goes_on = true, filter_goes_on = true;
    while (pattern_goes_on && filter_goes_on) {
        struct span wanted = take_level(&pattern, &pattern_goes_on);
        if (span_is(wanted, "#")) {
            return true;
        }
        if (!level_covers(wanted, take_level(&filter, &filter_goes_on), who)) {
            return false;
        }
    }
    /* MQTT 3.1.1 4.7.1.2: `x/#` matches `x` as well. */
    return !filter_goes_on && (!pattern_goes_on || span_is(pattern, "#"));
}

static bool allowed(const struct rules *rules, const struct who *who, enum action action, struct span topic)
{
    for (size_t i = 0; i < rules->count; i++) {
        const struct topic_rule *rule = &rules->topics[i];
        if (rule->purpose == who->purpose && rule->action == action &&
            covers((struct span){.at = rule->pattern, .length = rule->length}, topic, who)) {
            return true;
        }
    }
    return false;
}

bool rules_publish(const struct rules *rules, const struct who *who, const char *topic)
{
    return !is_wild(span_of(topic)) && allowed(rules, who, ACTION_PUBLISH, span_of(topic));
}

bool rules_receive(const struct rules *rules, const struct who *who, const char *topic)
{
    return !is_wild(span_of(topic)) && allowed(rules, who, ACTION_SUBSCRIBE, span_of(topic));
}

bool rules_subscribe(const struct rules *rules, const struct who *who, const char *filter)
{
    return allowed(rules, who, ACTION_SUBSCRIBE, span_of(filter));
}
