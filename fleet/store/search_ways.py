"""By which index a search goes: one that has what is asked for in the order of a list, if there is.

A condition allows several ways, and each finds all that fits and more; the condition itself is asked of
whatever a way finds. The way with the fewest rows is taken, counted as far as it matters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from fleet.core.query import Condition, Either, Every, TextTerm, TimeTerm
from fleet.core.query_fields import ATTRIBUTE
from fleet.model import Standing
from fleet.ports import Transaction
from fleet.store import columns
from fleet.store.search import Sql, id_range, moment, where

_FEW = 5000
"""Rows up to which a way is worth it that has to sort: if there are more, a walk over all fills a page."""
_MOST_ARMS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for, and which page of it."""

    condition: Condition
    now: datetime | None
    after: tuple[str, str] = ("", "")
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The rows of one index that fulfil `found`: `w` of a table that names devices, or `d`, the devices."""

    table: str = "devices"
    found: Sql
    join: str = ""
    """What ties a device to a row; empty where the rows are the devices themselves."""
    is_sorted: bool = True
    """Whether the index has them in the order of a list."""

    @property
    def key(self) -> str:
        """What the domain and id of a device are read from."""
        return "w" if self.join else "d"

    def rows(self) -> tuple[str, Sql]:
        """Return what stands behind FROM, and which rows of it are meant."""
        if not self.join:
            return "devices d", self.found
        if self.is_sorted:
            meant = Sql(text=f"{self.found.text} AND {self.join}", values=self.found.values)
            return f"{self.table} w CROSS JOIN devices d", meant
        # The limit changes nothing, for there are fewer: it keeps the planner from going another way.
        few = f"SELECT w.domain, w.device_id FROM {self.table} w WHERE {self.found.text} LIMIT {_FEW}"
        keys = f"SELECT DISTINCT domain, device_id FROM ({few}) AS few"
        return f"({keys}) w CROSS JOIN devices d", Sql(text=self.join, values=self.found.values)


Way: TypeAlias = tuple[Arm, ...]
"""Indexes that find all together."""

_BY_ID = "d.domain = w.domain AND d.device_id = w.device_id"
_MEMBERS = {
    "tag": ("device_tags", "tag"),
    "group": ("group_members", "name"),
    "station": ("station_units", "station"),
}
# A parameter does not tell the planner that it is not empty: the condition of the partial index does.
_COLUMNS = {
    "id": "d.device_id = ?",
    "batch": "d.batch = ?",
    "owner": "d.owner <> '' AND d.owner = ?",
    "model": "d.model <> '' AND d.model = ?",
}
_TROUBLE = "(d.suspended = 1 OR d.alarm > 0 OR d.code_conflict = 1)"
_STANDINGS: Mapping[str, Arm] = {
    Standing.RETIRED: Arm(found=Sql(text="d.retired_at IS NOT NULL")),
    Standing.REVOKED: Arm(found=Sql(text="d.revoked = 1")),
    Standing.ALARMED: Arm(found=Sql(text=_TROUBLE)),
    Standing.SUSPENDED: Arm(found=Sql(text=_TROUBLE)),
    Standing.EXPIRED: Arm(
        table="certificates",
        found=Sql(text="w.state IN ('expired-unused', 'expired-grace', 'expired-final')"),
        join=f"{_BY_ID} AND d.current_serial = w.serial",
    ),
    Standing.ADOPTED: Arm(
        table="certificates", found=Sql(text="w.serial < '01'"), join=_BY_ID, is_sorted=False
    ),
}


async def choose(tx: Transaction, search: Search) -> Way:
    """Return the way with the fewest rows; none where a walk over all devices is as good."""
    best: Way = ()
    fewest = _FEW + 1
    for way in ways(search.condition, search.now):
        size = 0
        for arm in way:
            size += await _size(tx, arm)
        goes = size <= _FEW or all(arm.is_sorted for arm in way)
        if goes and (size < fewest or not best):
            best, fewest = way, size
    return best


async def _size(tx: Transaction, arm: Arm) -> int:
    sql = f"SELECT COUNT(*) FROM (SELECT 1 FROM {arm.table} {arm.key} WHERE {arm.found.text} LIMIT ?) AS few"
    row = await tx.fetch_one(sql, (*arm.found.values, _FEW + 1))
    return 0 if row is None else columns.number(row[0])


def page(shown: str, search: Search, way: Way) -> Sql:
    """Return the search for a page: domain and id of each device, then what is to be shown."""
    arms = [_arm(f", {shown}", search, arm) for arm in way or (_ALL,)]
    text = " UNION ".join(arm.text for arm in arms)
    values = tuple(value for arm in arms for value in arm.values)
    return Sql(text=f"{text} ORDER BY 1, 2 LIMIT ?", values=(*values, search.limit))


def count(search: Search, way: Way) -> Sql:
    """Return the search for how many there are, on this page and after it."""
    keys = keys_of(search, way)
    return Sql(text=f"SELECT COUNT(*) FROM ({keys.text}) AS found", values=keys.values)


def keys_of(search: Search, way: Way) -> Sql:
    """Return the search for domain and id of all devices, on this page and after it."""
    arms = [_arm("", search, arm) for arm in way or (_ALL,)]
    values = tuple(value for arm in arms for value in arm.values)
    return Sql(text=" UNION ".join(arm.text for arm in arms), values=values)


_ALL = Arm(found=Sql(text="1 = 1"))


def _arm(shown: str, search: Search, arm: Arm) -> Sql:
    source, meant = arm.rows()
    asked = where(search.condition, now=search.now)
    text = (
        f"SELECT {arm.key}.domain, {arm.key}.device_id{shown} FROM {source}"
        " LEFT JOIN certificates c ON c.serial = d.current_serial"
        f" WHERE {meant.text} AND ({arm.key}.domain, {arm.key}.device_id) > (?, ?) AND ({asked.text})"
    )
    return Sql(text=text, values=(*meant.values, *search.after, *asked.values))


def ways(condition: Condition, now: datetime | None) -> tuple[Way, ...]:
    """Return the ways that a condition allows; none: only a walk over all devices finds what it asks."""
    match condition:
        case TextTerm():
            return _of_text(condition)
        case TimeTerm(field="expires", until=until) if until is not None:
            found = Sql(
                text="w.state IN ('issued', 'active') AND w.not_after < ?", values=(moment(until, now),)
            )
            return ((Arm(table="certificates", found=found, join=_BY_ID, is_sorted=False),),)
        case TimeTerm(field="enrolled", since=since) if since is not None:
            found = Sql(
                text="w.purpose = 'device' AND w.parent IS NULL AND w.created_at >= ?",
                values=(moment(since, now),),
            )
            return ((Arm(table="certificates", found=found, join=_BY_ID, is_sorted=False),),)
        case Every(conditions=conditions):
            return (
                *_of_prefix_in_domain(conditions),
                *(way for each in conditions for way in ways(each, now)),
            )
        case Either(conditions=conditions):
            return _together([ways(each, now) for each in conditions])
        case _:
            return ()


def _together(choices: list[tuple[Way, ...]]) -> tuple[Way, ...]:
    """Return the way that goes by one of each, where each has one."""
    if not all(choices):
        return ()
    arms = tuple(dict.fromkeys(arm for ways in choices for arm in ways[0]))
    return (arms,) if len(arms) <= _MOST_ARMS else ()


def _of_text(term: TextTerm) -> tuple[Way, ...]:
    value = term.pattern.exact
    if value is None:
        return _of_prefix(term)
    if value == "":
        return ()
    if term.field in _MEMBERS:
        table, column = _MEMBERS[term.field]
        return ((Arm(table=table, found=Sql(text=f"w.{column} = ?", values=(value,)), join=_BY_ID),),)
    if term.field in _COLUMNS:
        return ((Arm(found=Sql(text=_COLUMNS[term.field], values=(value,))),),)
    if term.field.startswith(ATTRIBUTE):
        name = term.field.removeprefix(ATTRIBUTE)
        found = Sql(text="w.name = ? AND w.value = ?", values=(name, value))
        return ((Arm(table="device_attributes", found=found, join=_BY_ID),),)
    return ((_STANDINGS[value],),) if term.field == "standing" and value in _STANDINGS else ()


def _of_prefix_in_domain(conditions: Sequence[Condition]) -> tuple[Way, ...]:
    """Return the way by the key itself, where a domain and a beginning of ids are asked for."""
    terms = [each for each in conditions if isinstance(each, TextTerm)]
    domains = [each.pattern.exact for each in terms if each.field == "domain" and each.pattern.exact]
    prefixes = [begins for each in terms if (begins := _prefix(each))]
    if not domains or not prefixes:
        return ()
    ids = id_range(prefixes[0])
    return ((Arm(found=Sql(text=f"d.domain = ? AND {ids.text}", values=(domains[0], *ids.values))),),)


def _prefix(term: TextTerm) -> str:
    begins, *rest = term.pattern.parts
    return begins if term.field == "id" and rest == [""] else ""


def _of_prefix(term: TextTerm) -> tuple[Way, ...]:
    begins = _prefix(term)
    if not begins:
        return ()
    found = id_range(begins, of="w")
    return ((Arm(table="devices", found=found, join=_BY_ID, is_sorted=False),),)
