"""Lines of a trail that was kept elsewhere: what was exported is read back, nothing else passes for it."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.audit import SignedHead, TreeHead, entry_hash
from fleet.errors import BadInputError
from fleet.model import AuditEntry
from fleet.ra.trail_lines import KeptEntry, line, parse_line
from fleet.store.audit import StoredEntry
from fleet.store.seal import head_line

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
names = st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9})?", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
entries = st.builds(
    AuditEntry,
    at=st.just(AT),
    action=names,
    actor=names,
    domain=texts,
    device_id=texts,
    serial=texts,
    details=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
)


def stored(number: int, entry: AuditEntry) -> StoredEntry:
    return StoredEntry(number=number, entry=entry, leaf_hash=entry_hash(number, entry))


@given(st.integers(0, 2**40), entries)
def test_an_exported_line_is_read_back_whole(number: int, entry: AuditEntry) -> None:
    found = parse_line(line(stored(number, entry)).encode(), 1)
    assert found == KeptEntry(number=number, entry=entry, leaf_hash=entry_hash(number, entry))


@given(entries, texts)
def test_a_line_that_says_something_else_is_found(entry: AuditEntry, text: str) -> None:
    members = json.loads(line(stored(7, entry)))
    if members.get("domain", "") == text:
        return
    with pytest.raises(BadInputError, match="was changed"):
        parse_line(json.dumps({**members, "domain": text}).encode(), 1)


def test_a_head_is_read_back() -> None:
    signed = SignedHead(head=TreeHead(log="acme", size=3, root=bytes(32), at=AT), signature=b"0123")
    assert parse_line(head_line(signed).encode(), 1) == signed


junk = st.one_of(
    st.binary(max_size=60),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4).map(
        lambda value: json.dumps(value).encode()
    ),
    st.dictionaries(
        st.sampled_from(["number", "at", "details", "leaf_hash", "signature"]), st.text(max_size=5)
    ).map(lambda value: json.dumps(value).encode()),
)


@given(junk)
def test_what_is_neither_is_refused(content: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_line(content, 1)


@pytest.mark.parametrize("details", [[["a"]], [["a", 1]], "text", [{"a": "b"}], [["a", "b", "c"]], 5])
def test_details_are_pairs_of_texts(details: object) -> None:
    members = json.loads(line(stored(7, AuditEntry(at=AT, action="a.b", actor="server"))))
    with pytest.raises(BadInputError):
        parse_line(json.dumps({**members, "details": details}).encode(), 1)


def test_a_line_of_any_length_is_not_read() -> None:
    with pytest.raises(BadInputError):
        parse_line(b'{"number": 1, "action": "' + b"x" * 1_100_000 + b'"}', 1)
