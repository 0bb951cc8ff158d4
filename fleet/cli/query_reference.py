"""Writes the reference of the query language from its fields: `python -m fleet.cli.query_reference`."""

import sys

from fleet.core.query_fields import ATTRIBUTE, FIELDS, Field, FieldKind
from fleet.core.query_text import DEEPEST, LONGEST_QUERY, MOST_TERMS

_KINDS = {
    FieldKind.TEXT: "text",
    FieldKind.TEXTS: "texts: one of them is enough",
    FieldKind.WORD: "word",
    FieldKind.AHEAD: "time; a duration counts from now on",
    FieldKind.AGO: "time; a duration counts back from now",
}

_HEAD = f"""# Query language

Which devices you mean, in one line: the same for `fleet device list --query`, for every act that takes
`--query`, for groups, for campaigns, and for the API. This page is made from the fields that the program
knows, by `python -m fleet.cli.query_reference`; a test holds it to them.

```
domain=prod and (tag=outdoor or expires<30d) and not standing=retired
```

## How it is read

| form | meaning |
|---|---|
| `FIELD=VALUE`, `FIELD!=VALUE` | it is, it is not |
| `FIELD<VALUE`, `<=`, `>`, `>=` | of times |
| `A and B`, `A B` | both; `and` may be left out |
| `A or B` | one, or both; `and` binds more tightly |
| `not A` | it does not hold |
| `( ... )` | first |
| `all` | every device; `all` beside other terms says that they may well select everything |

A value ends at a space, a parenthesis, a quote or an operator; in quotes, single or double, it may hold all
of these, and `\\` stands before a quote or a `\\`. Words and values are told apart by case (`and`, `or`,
`not`, `all` are not).

`*` stands for anything, once at the beginning, at the end or inside, or at both ends: `line3-*`, `*-0042`,
`a*z`, `*mid*`. A `*` alone is anything that is there: `tag=*` has a tag, `owner=""` has no owner. In quotes
`*` is a letter like others.

A time is a duration (`30d`; s m h d w), a day (`2026-01-31`, in UTC, compared as a whole), a moment
(`2026-01-31T08:00:00Z`), or `never`: `seen=never`. `expires<30d` ends within 30 days; `seen>7d` was last
there more than 7 days ago.

What nobody has said is an empty text. What is not a query is refused with the character where it stops
being one. At most {LONGEST_QUERY} characters, {MOST_TERMS} terms and {DEEPEST} levels.

An act on a query that selects nothing is refused, and so is one that selects every device of the fleet and
does not say `all`.

## Fields

| field | kind | what it is | such as |
|---|---|---|---|
"""

_ATTRIBUTES = "what a template, a webhook or an operator noted"
_TAIL = f"""| `{ATTRIBUTE}NAME` | text | {_ATTRIBUTES} | `{ATTRIBUTE}site=berlin` |

`prefix=line3-` is an older way to say `id=line3-*`.

The words of `standing`: {", ".join(f"`{word}`" for word in FIELDS["standing"].words)}.

## How long it takes

A list comes page by page, in the order of domain and id. Exact values of id, batch, group, tag, owner,
model, attributes and station, the beginning of an id, most words of `standing`, `expires` and `enrolled` go
by an index: a page of a hundred out of a million devices takes a few milliseconds. Alone, the other fields
read devices until the page is full; where next to nothing fits, that is the whole fleet, a second or two
for a million. `or` goes by an index if each of its sides does. `python -m benchmarks.search` measures it.
"""


def text() -> str:
    """Return the page, Markdown."""
    return "".join((_HEAD, *map(_row, FIELDS.values()), _TAIL))


def _row(field: Field) -> str:
    return f"| `{field.name}` | {_KINDS[field.kind]} | {field.about} | `{field.example}` |\n"


if __name__ == "__main__":
    sys.stdout.write(text())
