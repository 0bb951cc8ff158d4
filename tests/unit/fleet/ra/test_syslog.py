"""The trail as syslog, read back by a parser that takes nothing but the grammar of RFC 5424 6."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.audit import SignedHead, TreeHead
from fleet.model import AuditEntry
from fleet.ra.people.audits import ExportForm, export
from fleet.ra.people.syslog import entry_message, head_message
from fleet.store import audit
from fleet.store.audit import StoredEntry
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import memory_store
from tests.evidence import trail_in

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
HEADER = re.compile(
    r"<(0|[1-9][0-9]{0,2})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) - ([!-~]{1,48}) - ([!-~]{1,32}) (?=\[)",
    re.ASCII,
)
NAME = re.compile(r"[!#-<>-\\^-~]{1,32}")


@dataclass(frozen=True, kw_only=True)
class Message:
    priority: int
    at: str
    kind: str
    data: Mapping[str, list[tuple[str, str]]]
    text: str


def parse(line: str) -> Message:
    """Read one message, or fail an assertion."""
    header = HEADER.match(line)
    assert header, line
    assert int(header[1]) <= 191
    place, data = header.end(), dict[str, list[tuple[str, str]]]()
    while line[place] == "[":
        name = NAME.match(line, place + 1)
        assert name
        assert name[0] not in data
        members, place = parameters(line, name.end())
        data[name[0]] = members
    assert line[place] == " "
    text = line[place + 1 :]
    if not text.isascii():
        assert text.startswith("\ufeff")
    return Message(
        priority=int(header[1]), at=header[2], kind=header[4], data=data, text=text.removeprefix("\ufeff")
    )


def parameters(line: str, place: int) -> tuple[list[tuple[str, str]], int]:
    """Read what stands between the name of an element and its end."""
    found = []
    while line[place] == " ":
        name = NAME.match(line, place + 1)
        assert name
        assert line[name.end() : name.end() + 2] == '="'
        place, value = name.end() + 2, ""
        while line[place] != '"':
            assert line[place] != "]", "must be escaped"
            if line[place] == "\\":
                place += 1
                assert line[place] in '"\\]', "nothing else is escaped"
            value += line[place]
            place += 1
        found.append((name[0], value))
        place += 1
    assert line[place] == "]"
    return found, place + 1


def shown(text: str) -> str:
    """Return text as one line can hold it."""
    breaks = {"\x7f": "\u2421", "\x85": "\u2424", "\u2028": "\u2424", "\u2029": "\u2424"}
    return "".join(breaks.get(sign) or (chr(0x2400 + ord(sign)) if sign < " " else sign) for sign in text)


def stored(entry: AuditEntry) -> StoredEntry:
    return StoredEntry(number=7, entry=entry, leaf_hash=b"\xab" * 32)


awkward = st.text(
    st.one_of(st.sampled_from('"\\] =\n\r\t\0[\x85\u2028\u2029ü'), st.characters(codec="utf-8")), max_size=20
)


@given(awkward, awkward, awkward, st.lists(st.tuples(awkward, awkward), max_size=4))
def test_whatever_an_entry_holds_comes_out_of_one_line_as_it_went_in(
    action: str, actor: str, device_id: str, details: list[tuple[str, str]]
) -> None:
    entry = AuditEntry(at=AT, action=action, actor=actor, device_id=device_id, details=tuple(details))
    line = entry_message(stored(entry), fleet="acme")

    assert len(line.splitlines()) == 1
    message = parse(line)
    about = dict(message.data["entry@32473"])
    assert about.pop("leaf_hash") == "ab" * 32
    assert about.pop("fleet") == "acme"
    assert about.pop("number") == "7"
    told = {"action": action, "actor": actor, "device_id": device_id}
    assert about == {name: shown(value) for name, value in told.items() if value}
    values = [value for _, value in message.data.get("details@32473", [])]
    assert values == [shown(value) for name, value in details if name != "became"]
    assert message.text == shown(f"{action} by {actor}")


def test_an_entry_looks_like_this() -> None:
    entry = AuditEntry(
        at=AT,
        action="device.suspended",
        actor="operator:ada",
        domain="prod",
        device_id="d1",
        details=(("reason", 'a "lost" [box]'), ("became", "{}")),
    )
    assert entry_message(stored(entry), fleet="acme") == (
        "<109>1 2026-05-01T12:00:00Z - fleet - device.suspended"
        ' [entry@32473 fleet="acme" number="7" action="device.suspended" actor="operator:ada" domain="prod"'
        f' device_id="d1" leaf_hash="{"ab" * 32}"][details@32473 reason="a \\"lost\\" [box\\]"]'
        " device.suspended by operator:ada"
    )


def test_a_refusal_is_a_warning() -> None:
    entry = AuditEntry(at=AT, action="request.refused", actor="device:prod:d1")
    assert parse(entry_message(stored(entry), fleet="acme")).priority == 13 * 8 + 4


def test_the_signed_head_is_a_message_as_well() -> None:
    signed = SignedHead(head=TreeHead(log="acme", size=3, root=b"\xcd" * 32, at=AT), signature=b"sig")
    message = parse(head_message(signed))
    assert message.kind == "audit.head"
    expected = {"fleet": "acme", "size": "3", "root": "cd" * 32, "signature": "c2ln"}
    assert dict(message.data["head@32473"]) == expected


async def test_the_whole_trail_is_exported_in_order_with_the_head_last() -> None:
    entry = AuditEntry(at=AT, action="device.registered", actor="operator:ada", details=(("note", "a\nb"),))
    seal = AuditSeal(log="acme", sign=lambda _: b"sig", clock=lambda: AT)
    async with memory_store(seal=seal) as store:
        for _ in range(4):
            await store.write(audit.append, entry)
        lines = [line async for line in export(trail_in(store, "acme"), after=0, form=ExportForm.SYSLOG)]
    *entries, head = [parse(line) for line in lines]
    assert [dict(message.data["entry@32473"])["number"] for message in entries] == ["1", "2", "3"]
    assert dict(head.data["head@32473"])["size"] == "4"
