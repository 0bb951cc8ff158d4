"""The encoding of audit entries and tree heads: fixed for ever, and different for different entries."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.audit import TreeHead, encode_entry
from fleet.model import AuditEntry

ENTRY = AuditEntry(
    at=datetime(2026, 5, 1, 12, tzinfo=UTC),
    action="certificate.issued",
    actor="device:prod:d1",
    domain="prod",
    device_id="d1",
    serial="40" * 16,
    details=(("reason", "renewal"),),
)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
details = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
entries = st.builds(
    AuditEntry,
    at=st.just(ENTRY.at),
    action=texts,
    actor=texts,
    domain=texts,
    device_id=texts,
    serial=texts,
    details=details,
)


def test_the_encoding_of_an_entry_never_changes() -> None:
    assert encode_entry(7, ENTRY) == (
        b"\0\0\0\x14fleet-audit-entry-v1\0\0\0\x017\0\0\0\x142026-05-01T12:00:00Z"
        b"\0\0\0\x12certificate.issued\0\0\0\x0edevice:prod:d1\0\0\0\x04prod\0\0\0\x02d1"
        b"\0\0\0\x20" + b"40" * 16 + b"\0\0\0\x06reason\0\0\0\x07renewal"
    )


def test_the_message_of_a_head_never_changes() -> None:
    head = TreeHead(log="acme", size=3, root=b"\xab" * 32, at=ENTRY.at)
    assert head.message() == b"fleet-audit-head-v1\nacme\n3\n" + b"ab" * 32 + b"\n2026-05-01T12:00:00Z\n"


def test_a_number_is_part_of_the_entry() -> None:
    assert encode_entry(1, ENTRY) != encode_entry(11, ENTRY)


@given(entries, entries)
def test_two_entries_never_share_an_encoding(one: AuditEntry, other: AuditEntry) -> None:
    assert (encode_entry(0, one) == encode_entry(0, other)) == (one == other)


@given(entries, texts)
def test_what_moves_from_one_field_to_the_next_is_seen(entry: AuditEntry, text: str) -> None:
    left = replace(entry, action=entry.action + text)
    right = replace(entry, actor=text + entry.actor)
    assert not text or encode_entry(0, left) != encode_entry(0, right)
