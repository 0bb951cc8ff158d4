/* Reads untrusted text by lines and words; see text.h. */
#include "text.h"

#include <string.h>

struct span span_of(const char *text)
{
    return (struct span){.at = text, .length = strlen(text)};
}

bool span_is(struct span span, const char *text)
{
    return span_equals(span, span_of(text));
}

bool span_equals(struct span one, struct span other)
{
    return one.length == other.length && (one.length == 0 || memcmp(one.at, other.at, one.length) == 0);
}

bool next_line(struct span *text, struct span *line)
{
    size_t limit = text->length <= LONGEST_LINE ? text->length : LONGEST_LINE + 1;
    for (size_t i = 0; i < limit; i++) {
        char c = text->at[i];
        if (c == '\n') {
            *line = (struct span){.at = text->at, .length = i};
            text->at += i + 1;
            text->length -= i + 1;
            return true;
        }
        if (c < 0x20 || c > 0x7e) {
            return false;
        }
    }
    return false;
}

bool next_word(struct span *line, struct span *word)
{
    size_t length = 0;
    while (length < line->length && line->at[length] != ' ') {
        length++;
    }
    if (length == 0) {
        return false;
    }
    *word = (struct span){.at = line->at, .length = length};
    size_t taken = length < line->length ? length + 1 : length;
    if (taken > length && taken == line->length) {
        return false; /* a space at the end announces a word that is not there */
    }
    line->at += taken;
    line->length -= taken;
    return true;
}

bool last_word(struct span *line, struct span *word)
{
    return next_word(line, word) && line->length == 0;
}

bool read_number(struct span word, uint64_t *number)
{
    if (word.length == 0 || word.length > 19 || (word.length > 1 && word.at[0] == '0')) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < word.length; i++) {
        if (word.at[i] < '0' || word.at[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(word.at[i] - '0'); /* 19 digits fit into 64 bits */
    }
    if (value > INT64_MAX) {
        return false;
    }
    *number = value;
    return true;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool read_hex(struct span word, uint8_t *bytes, size_t size)
{
    if (word.length != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        int high = digit_of(word.at[2 * i]);
        int low = digit_of(word.at[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

bool read_hex_up_to(struct span word, uint8_t *bytes, size_t size, size_t *length)
{
    if (word.length < 2 || word.length % 2 != 0 || word.length > 2 * size) {
        return false;
    }
    *length = word.length / 2;
    return read_hex(word, bytes, *length);
}

void write_hex(const uint8_t *bytes, size_t size, char *digits)
{
    static const char alphabet[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        digits[2 * i] = alphabet[bytes[i] >> 4];
        digits[2 * i + 1] = alphabet[bytes[i] & 15];
    }
    digits[2 * size] = '\0';
}
