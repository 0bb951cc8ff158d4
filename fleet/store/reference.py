"""Writes the reference of the database from its migrations: `python -m fleet.store.reference`.

The scripts are the only source: what they say of a table or a column stands above it as a comment.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleet.store.migrate import Migration, known_migrations

_TABLE = re.compile(r"CREATE TABLE (\w+) \(")
_VIEW = re.compile(r"CREATE VIEW (\w+) AS")
_INDEX = re.compile(r"CREATE INDEX (\w+) ON (\w+) \((.+?)\)(?:\s+WHERE (.+))?$")
_ALTER = re.compile(r"ALTER TABLE (\w+) ADD COLUMN (.+)")
_DROP = re.compile(r"DROP TABLE (\w+)")
_KEYWORDS = re.compile(r"PRIMARY KEY|FOREIGN KEY|REFERENCES")
_COLUMN = re.compile(r"([a-z_]+) (TEXT|BIGINT|BLOB)(.*)")

_HEAD = """# Database

`fleet.db` in a fleet home is an SQLite database, and anybody may read it with plain SQL while the server
runs: `sqlite3 -readonly fleet.db`. Write to it through `fleet` alone, for every act belongs into the audit
trail and onto the brokers' list; what is changed in the trail by hand is found by `fleet audit verify`
([how](../explanation/audit.md)).

Times are RFC 3339 in UTC, whole seconds; hashes, serials and issuers are lower-case hex; flags are 0 or 1.
Four questions, and how to ask them:

```sql
-- what ends within the next month, the first to end first
SELECT name, serial, not_after FROM certificates
WHERE state IN ('issued', 'active') AND not_after < strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+1 month')
ORDER BY not_after, serial LIMIT 100;

-- which devices need somebody
SELECT domain, device_id, suspended, alarm, code_conflict FROM devices
WHERE suspended = 1 OR alarm > 0 OR code_conflict = 1;

-- the life of one device
SELECT serial, parent, state, not_before, not_after FROM certificates
WHERE domain = 'prod' AND device_id = 'd1' ORDER BY serial;

-- who did what to it, and why
SELECT e.number, e.at, e.actor, e.action, d.name, d.value FROM audit_entries e
LEFT JOIN audit_details d ON d.number = e.number
WHERE e.domain = 'prod' AND e.device_id = 'd1' ORDER BY e.number, d.position;
```

This page is made from the migrations in `fleet/store/migrations/` by `python -m fleet.store.reference`.

"""


@dataclass(slots=True, kw_only=True)
class _Table:
    """What the scripts say of one table or view."""

    name: str
    about: str
    is_view: bool
    query: list[str]
    columns: list[tuple[str, str, str]]
    keys: list[str]


def reference(migrations: Iterable[Migration]) -> str:
    """Return the page, as Markdown."""
    tables: dict[str, _Table] = {}
    for migration in migrations:
        _read(migration.script, tables)
    return (_HEAD + "\n".join(_section(table) for table in tables.values())).rstrip() + "\n"


def _read(script: str, found: dict[str, _Table]) -> None:
    """Add what a script says to the tables of those before it."""
    table: _Table | None = None
    comment: list[str] = []
    for line in _joined(script):
        text = line.strip().rstrip(",;")
        if text.startswith("--"):
            comment.append(text.removeprefix("--").strip())
            continue
        if match := _TABLE.match(text) or _VIEW.match(text):
            is_view = text.startswith("CREATE VIEW")
            about = " ".join(comment)
            table = _Table(name=match[1], about=about, is_view=is_view, query=[], columns=[], keys=[])
            found[table.name] = table
        elif match := _INDEX.match(text):
            where = f" where {match[4]}" if match[4] else ""
            found[match[2]].keys.append(f"index `{match[1]}` on {match[3]}{where}")
        elif match := _DROP.match(text):
            del found[match[1]]
        elif match := _ALTER.match(text):
            _take(found[match[1]], match[2], " ".join(comment))
        elif table is not None:
            _take(table, line, " ".join(comment))
        comment = []


def _joined(script: str) -> Iterator[str]:
    """Yield the lines, with an index that takes two in one."""
    pending = ""
    for line in script.splitlines():
        joined = f"{pending} {line.strip()}" if pending else line
        pending = joined if joined.startswith("CREATE INDEX") and not joined.endswith(";") else ""
        if not pending:
            yield joined


def _take(table: _Table, line: str, about: str) -> None:
    text = line.strip().rstrip(",;")
    if table.is_view:
        table.query += [line] if text else []
    elif match := _COLUMN.match(text):
        notes = match[3].strip()
        table.columns.append((match[1], f"{match[2].lower()}{_terms(notes)}", about))
    elif text.startswith(("PRIMARY KEY", "FOREIGN KEY")):
        table.keys.append(_KEYWORDS.sub(lambda keyword: keyword[0].lower(), text))


def _terms(notes: str) -> str:
    words = [] if "NOT NULL" in notes or "PRIMARY KEY" in notes else ["may be null"]
    words += ["primary key"] if "PRIMARY KEY" in notes else []
    words += ["unique"] if "UNIQUE" in notes else []
    return "".join(f", {word}" for word in words)


def _section(table: _Table) -> str:
    lines = [f"## `{table.name}`{' (view)' if table.is_view else ''}", "", _prose(table.about), ""]
    if table.query:
        lines += ["```sql", *table.query, "```", ""]
    if table.columns:
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {kind} | {_prose(about)} |" for name, kind, about in table.columns]
        lines.append("")
    lines += [f"- {key}" for key in table.keys]
    return "\n".join(lines) + ("\n" if table.keys else "")


def _prose(about: str) -> str:
    return about.replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(reference(known_migrations()))
