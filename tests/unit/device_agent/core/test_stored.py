"""The record as text."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.est import EstServer
from device_agent.core.ladder import Rung, Standing
from device_agent.core.record import Credential, DeviceRecord, Pending
from device_agent.core.stored import (
    VERSION,
    Bootstrap,
    NewerRecordError,
    StoredRecord,
    anchors_of,
    decode,
    encode,
    nowhere,
)
from device_agent.wire.objects import ObjectHashes
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import BrokerAddress, HttpsAddress
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
MOMENT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
ACTIVE = Credential(
    key="k-1",
    key_hash="a" * 64,
    serial="4" * 32,
    certificate=PEM,
    chain=PEM,
    not_before=MOMENT,
    not_after=MOMENT,
    renew_after=MOMENT,
    broker=BrokerAddress(host="h", port=8883, name="prod:d1", publish=("a/b",), subscribe=("c/#",)),
)
HASHES = ObjectHashes(chain=b"1" * 32, anchors=b"2" * 32, configuration=b"3" * 32)
PROOF = Proof(kind=ProofKind.CODE, code=Secret("ABCD-EFGH"))
PENDING = Pending(key="k-2", key_hash="b" * 64, attempt=3, credential=replace(ACTIVE, renew_after=None))
FULL = StoredRecord(
    life=DeviceRecord(
        active=ACTIVE,
        pending=PENDING,
        attempt=3,
        anchors=anchors_of([b"A", b"B"]),
        proof=PROOF,
        drop_acked=True,
    ),
    device_id="d1",
    domain="prod",
    fleet="acme",
    servers=anchors_of([b"C"]),
    bootstrap=Bootstrap(host="h", port=8884, claim_certificate="/a", claim_key="/b"),
    recovery=HttpsAddress(host="h", port=8443),
    csr=b"csr",
    active_hashes=HASHES,
    pending_hashes=HASHES,
    standing=Standing(rung=Rung.CODE, since=datetime(2026, 5, 1, tzinfo=UTC), why="not-current"),
)


BY_EST = StoredRecord(
    life=DeviceRecord(active=replace(ACTIVE, serial="5" * 40, broker=nowhere("plant:d1"))),
    device_id="d1",
    domain="plant",
    est=EstServer(host="h", port=8443, label="plant", certificate="/a", key="/b"),
)


@pytest.mark.parametrize("record", [StoredRecord(), FULL, BY_EST], ids=["blank", "full", "by-est"])
def test_a_record_reads_back_as_it_was_written(record: StoredRecord) -> None:
    assert decode(encode(record)) == record


def test_the_same_record_is_always_the_same_text() -> None:
    assert encode(FULL) == encode(FULL)


@given(at=st.integers(0, len(encode(FULL)) - 1), octet=st.integers(1, 255))
def test_a_record_with_one_changed_octet_is_never_read_as_another_record(at: int, octet: int) -> None:
    text = bytearray(encode(FULL))
    text[at] ^= octet
    with contextlib.suppress(MalformedMessageError):
        assert decode(bytes(text)) == FULL


@given(length=st.integers(0, len(encode(FULL)) - 2))
def test_a_torn_record_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessageError):
        decode(encode(FULL)[:length])


def test_a_newer_version_is_told_from_a_damaged_record() -> None:
    head, _, body = encode(FULL).partition(b"\n")
    newer = head.replace(b" 1 ", f" {VERSION + 1} ".encode()) + b"\n" + body
    with pytest.raises(NewerRecordError):
        decode(newer)


def test_an_agent_without_est_reads_all_but_a_record_that_needs_it() -> None:
    assert encode(FULL).startswith(b"fleet-device-record 1 ")
    assert encode(BY_EST).startswith(b"fleet-device-record 2 ")


def test_a_record_that_could_not_be_read_back_is_not_written() -> None:
    with pytest.raises(MalformedMessageError):
        encode(replace(FULL, device_id="a/b"))


def test_the_keys_of_both_slots_are_named() -> None:
    assert FULL.keys == {"k-1", "k-2"}
    assert StoredRecord().keys == frozenset()
