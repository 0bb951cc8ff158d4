/* Who may connect how, and which topics are whose; see rules.h. */
#include "rules.h"

#include <stdlib.h>
#include <string.h>

static const char *const PURPOSE_NAMES[PURPOSES] = {"device", "claim", "service", "backend"};
static const char *const ACTION_NAMES[ACTIONS] = {"publish", "subscribe"};
static const char *const EFFECT_NAMES[EFFECTS] = {"allow", "deny"};
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

/* set <purpose>: what the grants and classes after it belong to. */
static bool read_set(struct rules *rules, struct span line)
{
    struct span word;
    enum purpose purpose;
    if (!last_word(&line, &word) || !purpose_of(word, &purpose)) {
        return false;
    }
    rules->sets[rules->set_count++] = (struct grant_set){.purpose = purpose, .first = rules->grant_count};
    return true;
}

/* <allow|deny> <publish|subscribe> <pattern> */
static bool read_grant(struct rules *rules, size_t effect, struct span line)
{
    struct span action_word, pattern;
    size_t action;
    if (rules->set_count == 0 || !next_word(&line, &action_word) ||
        !index_of(action_word, ACTION_NAMES, ACTIONS, &action) || !last_word(&line, &pattern) ||
        pattern.length > LONGEST_PATTERN) {
        return false;
    }
    rules->grants[rules->grant_count++] = (struct grant){
        .effect = (enum effect)effect, .action = (enum action)action, .pattern = pattern};
    rules->sets[rules->set_count - 1].count++;
    return true;
}

/* class <number> */
static bool read_class(struct rules *rules, struct span line)
{
    struct span word;
    uint64_t number;
    if (rules->set_count == 0 || !last_word(&line, &word) || !read_number(word, &number)) {
        return false;
    }
    rules->classes[rules->class_count++] =
        (struct access_class){.number = number, .set = rules->set_count - 1};
    return true;
}

static bool read_rule(struct rules *rules, struct span word, struct span line)
{
    size_t effect;
    if (index_of(word, EFFECT_NAMES, EFFECTS, &effect)) {
        return read_grant(rules, effect, line);
    }
    return span_is(word, "connect") ? read_connect(rules, line)
           : span_is(word, "topic") ? read_topic(rules, line)
           : span_is(word, "set")   ? read_set(rules, line)
           : span_is(word, "class") ? read_class(rules, line)
                                    : false;
}

static int by_number(const void *one, const void *other)
{
    uint64_t first = ((const struct access_class *)one)->number;
    uint64_t second = ((const struct access_class *)other)->number;
    return first < second ? -1 : first > second;
}

/* Puts the classes in order; false if one stands there twice. */
static bool sort_classes(struct rules *rules)
{
    qsort(rules->classes, rules->class_count, sizeof *rules->classes, by_number);
    for (size_t i = 1; i < rules->class_count; i++) {
        if (rules->classes[i - 1].number == rules->classes[i].number) {
            return false;
        }
    }
    return true;
}

/* A copy of the text, and room for as many of each kind as it has lines. */
static bool make_room(struct rules *rules, struct span *text)
{
    size_t lines = 1;
    for (size_t i = 0; i < text->length; i++) {
        lines += text->at[i] == '\n';
    }
    rules->text = malloc(text->length + 1);
    rules->grants = calloc(lines, sizeof *rules->grants);
    rules->sets = calloc(lines, sizeof *rules->sets);
    rules->classes = calloc(lines, sizeof *rules->classes);
    if (rules->text == NULL || rules->grants == NULL || rules->sets == NULL || rules->classes == NULL) {
        return false;
    }
    memcpy(rules->text, text->at, text->length);
    text->at = rules->text;
    return true;
}

static bool read_lines(struct rules *rules, struct span text)
{
    struct span line, word, count_word;
    uint64_t lines = 0, announced;
    if (!next_line(&text, &line) || !span_is(line, "fleet-rules 2")) {
        return false;
    }
    while (next_line(&text, &line) && next_word(&line, &word)) {
        if (span_is(word, "end")) {
            return last_word(&line, &count_word) && read_number(count_word, &announced) &&
                   announced == lines && text.length == 0 && sort_classes(rules);
        }
        if (!read_rule(rules, word, line)) {
            return false;
        }
        lines++;
    }
    return false;
}

bool rules_read(struct rules *rules, struct span text)
{
    memset(rules, 0, sizeof *rules);
    if (make_room(rules, &text) && read_lines(rules, text)) {
        return true;
    }
    rules_free(rules);
    return false;
}

void rules_free(struct rules *rules)
{
    free(rules->text);
    free(rules->grants);
    free(rules->sets);
    free(rules->classes);
    memset(rules, 0, sizeof *rules);
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

/* True if some topic is matched by both. */
static bool overlaps(struct span pattern, struct span filter, const struct who *who)
{
    bool pattern_goes_on = true, filter_goes_on = true;
    while (pattern_goes_on && filter_goes_on) {
        struct span wanted = take_level(&pattern, &pattern_goes_on);
        struct span level = take_level(&filter, &filter_goes_on);
        if (span_is(wanted, "#") || span_is(level, "#")) {
            return true;
        }
        if (span_is(wanted, "+") || span_is(level, "+")) {
            continue;
        }
        struct span value = filled(wanted, who);
        if (value.length == 0 || !span_equals(value, level)) {
            return false;
        }
    }
    return (!pattern_goes_on || span_is(pattern, "#")) && (!filter_goes_on || span_is(filter, "#"));
}

static const struct grant_set *set_of(const struct rules *rules, const struct who *who)
{
    struct access_class wanted = {.number = who->access};
    const struct access_class *found = rules->class_count == 0
                                           ? NULL
                                           : bsearch(&wanted, rules->classes, rules->class_count,
                                                     sizeof wanted, by_number);
    const struct grant_set *set = found != NULL ? &rules->sets[found->set] : NULL;
    return set != NULL && set->purpose == who->purpose ? set : NULL;
}

/* A denial wins, wherever it stands. */
static bool granted(const struct rules *rules, const struct who *who, enum action action, struct span topic)
{
    const struct grant_set *set = set_of(rules, who);
    bool allowed = false;
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        const struct grant *grant = &rules->grants[set->first + i];
        if (grant->action != action) {
            continue;
        }
        if (grant->effect == EFFECT_DENY && overlaps(grant->pattern, topic, who)) {
            return false;
        }
        allowed = allowed || (grant->effect == EFFECT_ALLOW && covers(grant->pattern, topic, who));
    }
    return allowed;
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
    return granted(rules, who, action, topic);
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
