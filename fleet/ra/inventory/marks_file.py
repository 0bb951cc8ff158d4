"""Reads a table of what operators know of devices: CSV (RFC 4180), a device a line.

Columns: device_id, and any of domain, model, owner, tags, groups (several apart by spaces), attr.NAME. An
empty cell says nothing; tags and groups are added to those that there are.
"""

import csv
import io
from collections.abc import Iterable, Mapping

from device_agent.wire.identity import Identity, parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.marking import Changes, Marking, checked
from fleet.core.query_fields import ATTRIBUTE
from fleet.errors import BadInputError

MOST_LINES = 100_000
_COLUMNS = frozenset({"device_id", "domain", "model", "owner", "tags", "groups"})
_TOLD = frozenset({"standing", "batch", "not_after"})
"""What an export tells beside them, and nobody sets: passed over."""
_HINT = f"columns: device_id, domain, model, owner, tags, groups, {ATTRIBUTE}NAME"


def read_marks(text: str, *, domain: str) -> tuple[tuple[Identity, Marking], ...]:
    """Return what a table says of each device; `domain` is that of devices that name none.

    Raises:
        BadInputError: it is no such table; the message says which line.
    """
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    try:
        head = next(rows, [])
        _check_head(head)
        found = tuple(_read_lines(head, rows, domain))
    except csv.Error as error:
        raise BadInputError(f"line {rows.line_num}: {error}", hint=_HINT) from error
    if len({identity for identity, _ in found}) != len(found):
        raise BadInputError("a device stands in two lines", hint="say all of a device in one line")
    return found


def _check_head(head: list[str]) -> None:
    strange = [name for name in head if name not in _COLUMNS | _TOLD and not name.startswith(ATTRIBUTE)]
    if strange or "device_id" not in head or len(set(head)) != len(head):
        what = f"there is no column {strange[0][:64]!a}" if strange else "it needs device_id, and each once"
        raise BadInputError(f"line 1: {what}", hint=_HINT)


def _read_lines(
    head: list[str], rows: Iterable[list[str]], domain: str
) -> Iterable[tuple[Identity, Marking]]:
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(head):
            raise BadInputError(f"line {number}: {len(row)} cells, not {len(head)}", hint=_HINT)
        if number > MOST_LINES:
            raise BadInputError(f"more than {MOST_LINES} lines", hint="hand it in in parts")
        try:
            yield _read_line(dict(zip(head, row, strict=True)), domain)
        except (MalformedMessageError, BadInputError) as error:
            raise BadInputError(f"line {number}: {error}", hint=_HINT) from error


def _read_line(cells: Mapping[str, str], domain: str) -> tuple[Identity, Marking]:
    identity = Identity(
        domain=parse_domain(cells.get("domain") or domain), device_id=parse_device_id(cells["device_id"])
    )
    attributes = (
        (name.removeprefix(ATTRIBUTE), cell) for name, cell in cells.items() if name.startswith(ATTRIBUTE)
    )
    marking = Marking(
        model=cells.get("model") or None,
        owner=cells.get("owner") or None,
        attributes=tuple((name, value) for name, value in attributes if value),
        tags=Changes(put=tuple(cells.get("tags", "").split())),
        groups=Changes(put=tuple(cells.get("groups", "").split())),
    )
    return identity, checked(marking)
