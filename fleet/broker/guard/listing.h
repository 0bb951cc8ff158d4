/* Reads what the server writes: the whole list, its journal, and one change.
 *
 * A text is read fully and verified (count and SHA-256) before any of it counts. Garbage changes nothing.
 */
#ifndef FLEET_GUARD_LISTING_H
#define FLEET_GUARD_LISTING_H

#include "allowlist.h"

enum reading {
    READING_DONE,
    READING_MALFORMED, /* not the text that it should be; nothing was applied */
    READING_GAP,       /* a change that is not the next one, or not of this list; nothing was applied */
    READING_MEMORY,    /* no memory; nothing was applied */
};

/* fleet-allowlist 2 <generation> <sequence> <count>
 * <issuer> <serial> <fingerprint> <purpose> <not after> <class> <name>
 * ...
 * end <SHA-256 of all that stands before this line>
 */
enum reading listing_read(struct span text, struct allowlist **list);

/* change <generation> <sequence> <added> <removed>
 * <entry> ...
 * end <SHA-256 of all that stands before this line>
 *
 * Takes the change off `text`, and applies all of it or nothing. The entries that it removed are chained
 * by next_by_key into `removed`, for the caller to act upon and free.
 */
enum reading listing_change(struct allowlist *list, struct span *text, struct entry **removed);

/* Applies the changes of a journal that carry on from the list; those that it holds already are passed over.
 * Stops at the first that does not fit or is torn: returns READING_MALFORMED or READING_GAP then. */
enum reading listing_replay(struct allowlist *list, struct span text);

void listing_free_removed(struct entry *removed);

#endif
