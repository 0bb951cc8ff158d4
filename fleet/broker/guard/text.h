/* Reads untrusted text by lines and words, in place and within its bounds.
 *
 * Nothing here allocates, copies, or reads past the end that it was given; text need not end in NUL.
 */
#ifndef FLEET_GUARD_TEXT_H
#define FLEET_GUARD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of text that belongs to somebody else. */
struct span {
    const char *at;
    size_t length;
};

struct span span_of(const char *text);
bool span_is(struct span span, const char *text);
bool span_equals(struct span one, struct span other);

/* Takes the next line, without its newline. False at the end, and for a line that is torn (no newline),
 * longer than LONGEST_LINE, or holds anything but printable ASCII. */
#define LONGEST_LINE 1024
bool next_line(struct span *text, struct span *line);

/* Takes the next word of a line; words are parted by exactly one space. False at the end. */
bool next_word(struct span *line, struct span *word);

/* Takes the last word of a line: false if something follows it. */
bool last_word(struct span *line, struct span *word);

/* Decimal digits without sign or leading zero, at most 2^63 - 1. */
bool read_number(struct span word, uint64_t *number);

/* Lower-case hex of exactly, or of 1 to, `size` bytes. */
bool read_hex(struct span word, uint8_t *bytes, size_t size);
bool read_hex_up_to(struct span word, uint8_t *bytes, size_t size, size_t *length);

/* Writes 2 * size digits and a NUL. */
void write_hex(const uint8_t *bytes, size_t size, char *digits);

#endif
