"""Which certificates the access policy tells apart: each admitted one has a class, by what is known of it.

A class is a number for facts that the policy in force asks about; whoever changes such a fact of a device
calls `refresh` in the same unit of work. What a class may do, the core says, not this module.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from device_agent.wire.identity import Identity
from fleet.ports import Row, Transaction, Value
from fleet.store import allowlist, columns

Facts: TypeAlias = dict[str, set[str]]

_PAGE = 500
_OF_DEVICE = "c.domain = ? AND c.device_id = ?"
_ONE = "c.serial = ?"
_SOME = "c.serial > ? AND c.serial <= ? AND c.state IN ('void', 'issued', 'active')"
_IN_FORCE = "c.serial > ? AND c.serial <= ? AND c.state IN ('issued', 'active')"
_FACTS = {
    "domain": "c.domain",
    "profile": "c.profile",
    "assurance": "d.assurance",
    "batch": "d.batch",
    "model": "d.model",
    "owner": "d.owner",
}
_LISTS = {
    "group": ("g.name", "group_members g ON g.domain = c.domain AND g.device_id = c.device_id"),
    "tag": ("t.tag", "device_tags t ON t.domain = c.domain AND t.device_id = c.device_id"),
}
_ATTRIBUTES = (
    "device_attributes a ON a.domain = c.domain AND a.device_id = c.device_id"
    " AND a.name = ? AND a.source <> 'template'"
)
ATTRIBUTE = "attr."
"""What the names of attributes begin with."""
BACKEND = "backend"
"""The fact of a backend's class: its name."""


async def asked(tx: Transaction, _argument: None = None) -> tuple[str, ...]:
    """Return the names of the facts that the policy in force asks about."""
    row = await tx.fetch_one("SELECT asks FROM access_policies ORDER BY number DESC LIMIT 1")
    return () if row is None else tuple(json.loads(columns.text(row[0])))


async def classes(tx: Transaction, _argument: None) -> dict[int, dict[str, frozenset[str]]]:
    """Return the facts of every class."""
    rows = await tx.fetch_all("SELECT class, facts FROM access_classes ORDER BY class")
    return {columns.number(number): _read(columns.text(facts)) for number, facts in rows}


async def count_classes(tx: Transaction, _argument: None) -> list[tuple[dict[str, frozenset[str]], int]]:
    """Return the facts of every class of devices, and how many certificates are admitted in it."""
    rows = await tx.fetch_all(
        "SELECT a.facts, COUNT(*) FROM allowlist l JOIN access_classes a ON a.class = l.access_class"
        " WHERE l.purpose = 'device' GROUP BY a.facts"
    )
    return [(_read(columns.text(facts)), columns.number(count)) for facts, count in rows]


async def class_of_backend(tx: Transaction, name: str) -> int:
    """Return the class of a backend alone."""
    return await _number(tx, _written({BACKEND: {name}}))


async def classify_signed(tx: Transaction, serial: str) -> None:
    """Put a certificate that was just signed into its class."""
    backend = await tx.fetch_one(
        "SELECT b.name FROM certificates c JOIN backends b ON b.name = c.name"
        " WHERE c.serial = ? AND c.purpose = 'service'",
        (serial,),
    )
    if backend is not None:
        number = await class_of_backend(tx, columns.text(backend[0]))
        await tx.execute("UPDATE certificates SET access_class = ? WHERE serial = ?", (number, serial))
    elif names := await asked(tx):
        await _classify(tx, _ONE, (serial,), names)


async def refresh(tx: Transaction, identities: Sequence[Identity]) -> int | None:
    """Put the certificates of devices of which something changed into their classes.

    Return the allowlist's new sequence number if that changed: brokers must reach it.
    """
    names = await asked(tx)
    if not names:
        return None
    before = [entry for identity in identities for entry in await allowlist.of_device(tx, identity)]
    for identity in identities:
        await _classify(tx, _OF_DEVICE, (identity.domain, identity.device_id), names)
    after = [entry for identity in identities for entry in await allowlist.of_device(tx, identity)]
    return await allowlist.note(tx, before, after=after)


async def refresh_all(tx: Transaction) -> int | None:
    """Put every certificate that may be admitted into its class, for another policy; returns as `refresh`."""
    names = await asked(tx)
    last, moved = "", 0
    while page := await _following(tx, last):
        moved += await _classify(tx, _SOME, (last, page), names)
        last = page
    await tx.execute(
        "DELETE FROM access_classes WHERE class <> 1"
        " AND class NOT IN (SELECT DISTINCT access_class FROM certificates)"
    )
    return await allowlist.note_all(tx) if moved else None


async def tell_apart(tx: Transaction, names: Sequence[str]) -> list[tuple[dict[str, frozenset[str]], int]]:
    """Return what is known of devices' certificates in force, and of how many of them just that."""
    counts: Counter[str] = Counter()
    last = ""
    while page := await _following(tx, last):
        counts.update(map(_written, (await _facts(tx, _IN_FORCE, (last, page), names)).values()))
        last = page
    return [(_read(text), count) for text, count in counts.items()]


async def facts_of(
    tx: Transaction, identity: Identity, names: Sequence[str]
) -> dict[str, dict[str, frozenset[str]]]:
    """Return what is known of each certificate of a device, by serial."""
    found = await _facts(tx, _OF_DEVICE, (identity.domain, identity.device_id), names)
    return {serial: _frozen(facts) for serial, facts in found.items()}


async def facts_of_serial(tx: Transaction, serial: str) -> dict[str, frozenset[str]]:
    """Return the facts of a certificate's class."""
    row = await tx.fetch_one(
        "SELECT a.facts FROM certificates c JOIN access_classes a ON a.class = c.access_class"
        " WHERE c.serial = ?",
        (serial,),
    )
    return {} if row is None else _read(columns.text(row[0]))


async def _following(tx: Transaction, serial: str) -> str:
    """Return the last serial of the page after a serial; empty where none follows."""
    row = await tx.fetch_one(
        "SELECT MAX(serial) FROM (SELECT serial FROM certificates WHERE serial > ?"
        " ORDER BY serial LIMIT ?) AS page",
        (serial, _PAGE),
    )
    return "" if row is None or row[0] is None else columns.text(row[0])


async def _classify(tx: Transaction, where: str, parameters: Sequence[Value], names: Sequence[str]) -> int:
    """Return how many changed their class."""
    numbers: dict[str, int] = {}
    moved: list[Row] = []
    stands = await _standing(tx, where, parameters)
    for serial, facts in (await _facts(tx, where, parameters, names)).items():
        text = _written(facts)
        if text not in numbers:
            numbers[text] = await _number(tx, text)
        if stands[serial] != numbers[text]:
            moved.append((numbers[text], serial))
    await tx.execute_many("UPDATE certificates SET access_class = ? WHERE serial = ?", moved)
    return len(moved)


async def _standing(tx: Transaction, where: str, parameters: Sequence[Value]) -> dict[str, int]:
    rows = await tx.fetch_all(
        f"SELECT c.serial, c.access_class FROM certificates c WHERE c.purpose = 'device' AND {where}",
        parameters,
    )
    return {columns.text(serial): columns.number(number) for serial, number in rows}


# Left joins, for the order in which SQLite looks: certificates of a page first, then what is known of each.


async def _facts(
    tx: Transaction, where: str, parameters: Sequence[Value], names: Sequence[str]
) -> dict[str, Facts]:
    single = [name for name in names if name in _FACTS]
    selected = "".join(f", {_FACTS[name]}" for name in single)
    rows = await tx.fetch_all(
        f"SELECT c.serial{selected} FROM certificates c"
        " LEFT JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id"
        f" WHERE c.purpose = 'device' AND {where}",
        parameters,
    )
    found: dict[str, Facts] = {}
    for serial, *values in rows:
        known = zip(single, values, strict=True)
        found[columns.text(serial)] = {name: {columns.text(value)} for name, value in known if value}
    for name in (name for name in names if name not in _FACTS):
        for serial, value in await _listed(tx, where, parameters, name):
            if serial in found:
                found[serial].setdefault(name, set()).add(value)
    return found


async def _listed(
    tx: Transaction, where: str, parameters: Sequence[Value], name: str
) -> list[tuple[str, str]]:
    if name.startswith(ATTRIBUTE):
        # What a device says of itself opens nothing.
        column, joined = "a.value", _ATTRIBUTES
        given = [name.removeprefix(ATTRIBUTE)]
    else:
        (column, joined), given = _LISTS[name], []
    rows = await tx.fetch_all(
        f"SELECT c.serial, {column} FROM certificates c LEFT JOIN {joined}"
        f" WHERE c.purpose = 'device' AND {where}",
        (*given, *parameters),
    )
    return [(columns.text(serial), columns.text(value)) for serial, value in rows if value is not None]


async def _number(tx: Transaction, facts: str) -> int:
    row = await tx.fetch_one("SELECT class FROM access_classes WHERE facts = ?", (facts,))
    if row is not None:
        return columns.number(row[0])
    last = await tx.fetch_one("SELECT MAX(class) FROM access_classes")
    number = 1 + (0 if last is None or last[0] is None else columns.number(last[0]))
    await tx.execute("INSERT INTO access_classes (class, facts) VALUES (?, ?)", (number, facts))
    return number


def _written(facts: Mapping[str, set[str]]) -> str:
    told = {name: sorted(values) for name, values in sorted(facts.items()) if values}
    return json.dumps(told, separators=(",", ":"))


def _read(text: str) -> dict[str, frozenset[str]]:
    return {str(name): frozenset(map(str, values)) for name, values in json.loads(text).items()}


def _frozen(facts: Facts) -> dict[str, frozenset[str]]:
    return {name: frozenset(values) for name, values in facts.items()}
