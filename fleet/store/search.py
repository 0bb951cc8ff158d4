"""Asks the database what a query asks of a device: the same condition as SQL, with every value a parameter.

It never puts a word of the query into the SQL: names of columns stand in the tables below, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.query import (
    Bound,
    Condition,
    Either,
    Every,
    Everything,
    NeverTerm,
    Not,
    Pattern,
    TextTerm,
    TimeTerm,
)
from fleet.core.query_fields import ATTRIBUTE
from fleet.errors import StoreError
from fleet.ports import Value
from fleet.store import times

ENROLLED = (
    "(SELECT MIN(e.created_at) FROM certificates e WHERE e.purpose = 'device' AND e.domain = d.domain"
    " AND e.device_id = d.device_id AND e.fingerprint IS NOT NULL)"
)
EXPIRES = "CASE WHEN c.state = 'active' THEN c.not_after END"
PROFILE = "COALESCE(NULLIF(c.profile, ''), d.profile)"

# One expression, in the order of the words of `Standing`, so that a list and a filter never differ.
STANDING = """CASE
    WHEN d.retired_at IS NOT NULL THEN 'retired'
    WHEN d.revoked = 1 THEN 'revoked'
    WHEN d.alarm > 0 OR d.code_conflict = 1 THEN 'alarmed'
    WHEN d.suspended = 1 THEN 'suspended'
    WHEN c.state = 'active' AND c.serial < '01' THEN 'adopted'
    WHEN c.state = 'active' THEN 'active'
    WHEN c.state LIKE 'expired%' THEN 'expired'
    WHEN EXISTS (SELECT 1 FROM certificates i WHERE i.purpose = 'device' AND i.domain = d.domain
        AND i.device_id = d.device_id AND i.state = 'issued') THEN 'enrolling'
    ELSE 'registered'
END"""

_TEXTS: Mapping[str, str] = {
    "domain": "d.domain",
    "id": "d.device_id",
    "batch": "COALESCE(d.batch, '')",
    "profile": PROFILE,
    "model": "d.model",
    "hardware": "d.hardware",
    "owner": "d.owner",
    "version": "d.agent_version",
    "standing": STANDING,
}
_OF_DEVICE = "x.domain = d.domain AND x.device_id = d.device_id"
_SETS: Mapping[str, tuple[str, str]] = {
    "group": (f"SELECT 1 FROM group_members x WHERE {_OF_DEVICE}", "x.name"),
    "tag": (f"SELECT 1 FROM device_tags x WHERE {_OF_DEVICE}", "x.tag"),
    "station": (f"SELECT 1 FROM station_units x WHERE {_OF_DEVICE}", "x.station"),
}
"""What is looked through, and the column that must fit."""
_MOMENTS: Mapping[str, str] = {
    "expires": EXPIRES,
    "enrolled": ENROLLED,
    "registered": "d.registered_at",
    "seen": "d.last_seen_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql:
    """A piece of SQL, and the values of its `?`."""

    text: str
    values: tuple[Value, ...] = ()


def where(condition: Condition, *, now: datetime | None) -> Sql:
    """Return a condition over `devices d LEFT JOIN certificates c ON c.serial = d.current_serial`.

    It is never NULL, so that what it says and what it denies are all there is.

    Raises:
        StoreError: a duration counts from now, and no time was given.
    """
    match condition:
        case Everything():
            return Sql(text="1 = 1")
        case TextTerm():
            return _text_term(condition)
        case TimeTerm():
            return _time_term(condition, now)
        case NeverTerm(field=name):
            return Sql(text=f"{_MOMENTS[name]} IS NULL")
        case Not(condition=inner):
            found = where(inner, now=now)
            return Sql(text=f"NOT ({found.text})", values=found.values)
        case Every(conditions=conditions):
            return _joined(" AND ", [where(each, now=now) for each in conditions])
        case Either(conditions=conditions):
            return _joined(" OR ", [where(each, now=now) for each in conditions])


def _joined(word: str, parts: Sequence[Sql]) -> Sql:
    values = tuple(value for part in parts for value in part.values)
    return Sql(text=word.join(f"({part.text})" for part in parts), values=values)


def _text_term(term: TextTerm) -> Sql:
    if term.field.startswith(ATTRIBUTE):
        return _attribute(term.field.removeprefix(ATTRIBUTE), term.pattern)
    if term.field == "issuer":
        return _issuer(term.pattern)
    if term.field in _SETS:
        rows, column = _SETS[term.field]
        found = fitting(column, term.pattern)
        return Sql(text=f"EXISTS ({rows} AND {found.text})", values=found.values)
    if term.field == "id" and len(term.pattern.parts) == 2 and term.pattern.parts[1] == "":
        return id_range(term.pattern.parts[0])
    return fitting(_TEXTS[term.field], term.pattern)


def id_range(prefix: str, *, of: str = "d") -> Sql:
    """Return which ids begin so; a range, for it uses the index."""
    return Sql(text=f"{of}.device_id >= ? AND {of}.device_id < ?", values=(prefix, f"{prefix}\x7f"))


def _attribute(name: str, pattern: Pattern) -> Sql:
    rows = f"SELECT 1 FROM device_attributes x WHERE {_OF_DEVICE} AND x.name = ?"
    if pattern.exact == "":
        return Sql(text=f"NOT EXISTS ({rows} AND x.value <> '')", values=(name,))
    found = fitting("x.value", pattern)
    return Sql(text=f"EXISTS ({rows} AND {found.text})", values=(name, *found.values))


def _issuer(pattern: Pattern) -> Sql:
    """A CA has two names, and no certificate has none."""
    key, name = fitting("c.issuer", pattern), fitting("x.folder", pattern)
    rows = f"SELECT 1 FROM authorities x WHERE x.issuer = c.issuer AND {name.text}"
    text = f"COALESCE(c.issuer, '') <> '' AND ({key.text} OR EXISTS ({rows}))"
    return Sql(text=text, values=(*key.values, *name.values))


def fitting(column: str, pattern: Pattern) -> Sql:
    """Return whether a column fits a pattern. No LIKE: databases differ in which letters are alike."""
    match pattern.parts:
        case (whole,):
            return Sql(text=f"{column} = ?", values=(whole,))
        case ("", ""):
            return Sql(text=f"{column} <> ''")
        case (begins, ends):
            text = (
                f"length({column}) >= ? AND substr({column}, 1, ?) = ?"
                f" AND substr({column}, length({column}) - ? + 1) = ?"
            )
            long = len(begins) + len(ends)
            return Sql(text=f"({text})", values=(long, len(begins), begins, len(ends), ends))
        case _:
            return Sql(text=f"replace({column}, ?, '') <> {column}", values=(pattern.parts[1],))


def _time_term(term: TimeTerm, now: datetime | None) -> Sql:
    column = _MOMENTS[term.field]
    text, values = [f"{column} IS NOT NULL"], list[Value]()
    for bound, operator in ((term.since, ">="), (term.until, "<")):
        if bound is not None:
            text.append(f"{column} {operator} ?")
            values.append(moment(bound, now))
    return Sql(text=" AND ".join(text), values=tuple(values))


def moment(bound: Bound, now: datetime | None) -> str:
    """Return the time that a bound means now, as a column holds it."""
    if isinstance(bound, datetime):
        return times.text(bound)
    if now is None:
        raise StoreError("a duration counts from now, and no time was given", hint="report this as a defect")
    return times.text(now + bound)
