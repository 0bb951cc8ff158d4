"""What stations and their server exchange: read strictly, written in one way, never trusted for more."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import HttpsAddress
from device_agent.wire.secret import Secret
from fleet.core.badge import verifier_of, who_shows
from fleet.core.journal import (
    GENESIS,
    MAX_ENTRY_BYTES,
    Entry,
    Fault,
    Head,
    Kind,
    SignedEntry,
    after,
    digest_of,
    misplaced,
    parse_entry,
)
from fleet.core.lease import Lease, Refusal, SignedLease, parse_lease, parse_signed
from fleet.core.serial import leased_number, leased_serial
from fleet.core.station_rules import RuleTexts, SerialRange, Shift, texts_of
from fleet.core.station_sync import (
    JournalReceipt,
    JournalUpload,
    LineOperator,
    fitting,
    parse_receipt,
    parse_upload,
)
from fleet.errors import BadInputError

NOON = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
ENTRY = Entry(station="line3", number=1, at=NOON, kind=Kind.OPENED, previous=GENESIS, signer="4" * 32)
LEASE = Lease(
    lease="4" * 32,
    fleet="acme",
    domain="prod",
    station="line3",
    batch="spring",
    first=1,
    count=10,
    issued_at=NOON,
    not_after=NOON + timedelta(days=7),
    authority=b"der",
    anchors=(b"root",),
    broker_host="localhost",
    broker_port=8883,
    recovery=HttpsAddress(host="localhost", port=8443),
)
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=40).filter(
    str.isprintable
)
TIMES = st.integers(0, 2**31).map(lambda seconds: NOON + timedelta(seconds=seconds))
ENTRIES = st.builds(
    Entry,
    station=st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True),
    number=st.integers(1, 2**53 - 1),
    at=TIMES,
    kind=st.sampled_from(Kind),
    previous=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    signer=st.from_regex(r"4[0-9a-f]{31}", fullmatch=True),
    details=st.dictionaries(st.from_regex(r"[a-z]{1,10}", fullmatch=True), TEXTS, max_size=5),
)


@given(ENTRIES)
def test_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert parse_entry(entry.encode()) == entry


@given(st.binary(max_size=300))
def test_bytes_that_are_no_entry_are_told_as_such(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse_entry(octets)


@given(ENTRIES, st.data())
def test_an_entry_is_written_in_one_way_only(entry: Entry, data: st.DataObject) -> None:
    octets = bytearray(entry.encode())
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    try:
        assert parse_entry(bytes(octets)) != entry
    except MalformedMessageError:
        return


@pytest.mark.parametrize(
    "octets",
    [
        b" " + ENTRY.encode(),
        ENTRY.encode().replace(b'"v":1', b'"v":1.0'),
        ENTRY.encode().replace(b'"v":1', b'"v":2'),
        ENTRY.encode().replace(b"}", b',"more":1}', 1),
        ENTRY.encode().replace(b"opened", b"oqened"),
        ENTRY.encode().replace(b"12:00:00Z", b"12:00:00.5Z"),
        b"{" + b" " * MAX_ENTRY_BYTES + b"}",
        replace(ENTRY, details={"reason": "a\nb"}).encode(),
        replace(ENTRY, details={"reason": "\ud800"}).encode(),
    ],
    ids=range(9),
)
def test_what_is_almost_an_entry_is_none(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse_entry(octets)


def test_the_place_of_an_entry_is_judged_by_one_rule_at_a_time() -> None:
    head = after(Head(), ENTRY.encode())
    second = replace(ENTRY, number=2, previous=head.digest)
    verdicts = {
        None: second,
        Fault.STRANGER: replace(second, station="line4"),
        Fault.GAP: replace(second, number=3),
        Fault.REWRITTEN: replace(second, number=1),
        Fault.UNCHAINED: replace(second, previous=GENESIS),
    }
    for fault, entry in verdicts.items():
        assert misplaced(head, entry, station="line3") is fault


SIGNED = st.builds(
    SignedEntry, octets=ENTRIES.map(Entry.encode), signature=st.binary(min_size=1, max_size=72)
)


@given(TIMES, st.lists(SIGNED, max_size=4))
def test_an_upload_is_read_as_it_was_written(now: datetime, entries: list[SignedEntry]) -> None:
    upload = JournalUpload(now=now, entries=tuple(entries))
    assert parse_upload(upload.encode()) == upload


@given(st.binary(max_size=300))
def test_bytes_that_are_no_upload_receipt_or_lease_are_told_as_such(body: bytes) -> None:
    for parse in (parse_upload, parse_receipt, parse_lease, parse_signed):
        with pytest.raises(MalformedMessageError):
            parse(body)


def test_as_many_entries_go_as_a_message_takes() -> None:
    long = replace(ENTRY, details={"reason": "x" * 2000, "more": '"' * 900})
    entries = [SignedEntry(octets=long.encode(), signature=bytes(72))] * 100
    taken = fitting(entries)
    assert 5 < len(taken) < 100
    assert len(parse_upload(JournalUpload(now=NOON, entries=taken).encode()).entries) == len(taken)


RULES = RuleTexts(
    batches=("spring", "winter"),
    quotas=("spring=5",),
    serials=("spring=s-0001..s-0100", "winter=1..9"),
    shifts=("mon,tue 06:00-14:00 Europe/Berlin",),
    rate_per_minute=60,
)


def test_a_receipt_is_read_as_it_was_written() -> None:
    receipt = JournalReceipt(
        head=Head(number=7, digest=digest_of(b"x")),
        now=NOON,
        rules=RULES.read(),
        operators=(LineOperator(name="ada", verifier="scrypt$1$AA==$AA=="),),
        fault="a gap",
    )
    assert parse_receipt(receipt.encode()) == receipt


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("number", 0),
        ("number", -1),
        ("hash", GENESIS[:-1]),
        ("rules", {"batches": [], "quotas": [], "serials": [], "shifts": []}),
        ("rules", {"batches": ["b"], "quotas": ["c=1"], "serials": [], "shifts": []}),
        ("operators", [{"name": "ada"}]),
        ("v", 2),
    ],
)
def test_a_receipt_that_makes_no_sense_is_refused(member: str, value: object) -> None:
    good = JournalReceipt(head=Head(number=7, digest=digest_of(b"x")), now=NOON, rules=RULES.read())
    body = json.dumps(json.loads(good.encode()) | {member: value}).encode()
    with pytest.raises(MalformedMessageError):
        parse_receipt(body)


def test_rules_are_written_as_they_are_read() -> None:
    assert texts_of(RULES.read()) == RULES


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(-5, 10005))
def test_a_range_covers_its_numbers_at_their_width(first: int, last: int, number: int) -> None:
    text = f"s-{first:04d}..s-{last:04d}"
    if last < first:
        with pytest.raises(BadInputError):
            SerialRange.parse(text)
        return
    assert SerialRange.parse(text).covers(f"s-{number:04d}") == (first <= number <= last)
    assert not SerialRange.parse(text).covers(f"t-{number:04d}")


@given(st.text(max_size=60))
def test_texts_that_are_no_range_or_shift_are_told_as_such(text: str) -> None:
    for parse in (SerialRange.parse, Shift.parse):
        try:
            assert str(parse(text))
        except BadInputError:
            continue


@pytest.mark.parametrize(
    ("shift", "at", "covered"),
    [
        ("mon-fri 06:00-14:00 UTC", datetime(2030, 6, 3, 6, 0, tzinfo=UTC), True),
        ("mon-fri 06:00-14:00 UTC", datetime(2030, 6, 3, 14, 0, tzinfo=UTC), False),
        ("mon-fri 06:00-14:00 UTC", datetime(2030, 6, 2, 8, 0, tzinfo=UTC), False),
        ("sun 22:00-06:00 UTC", datetime(2030, 6, 2, 23, 0, tzinfo=UTC), True),
        ("sun 22:00-06:00 UTC", datetime(2030, 6, 3, 5, 59, tzinfo=UTC), True),
        ("sun 22:00-06:00 UTC", datetime(2030, 6, 2, 5, 59, tzinfo=UTC), False),
        ("fri-mon 00:00-00:00 UTC", datetime(2030, 6, 2, 12, 0, tzinfo=UTC), True),
        # 01:30 in UTC is 03:30 in Berlin in summer.
        ("sat 03:00-04:00 Europe/Berlin", datetime(2030, 6, 1, 1, 30, tzinfo=UTC), True),
    ],
)
def test_a_shift_is_in_its_own_time_zone_and_may_go_over_midnight(
    shift: str, at: datetime, covered: bool
) -> None:
    assert Shift.parse(shift).covers(at) is covered


def test_a_lease_is_read_as_it_was_written() -> None:
    signed = SignedLease(octets=LEASE.encode(), signature=b"signature")
    assert parse_signed(signed.encode()) == signed
    assert parse_lease(signed.octets) == LEASE


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("first", 0),
        ("count", 0),
        ("count", 10**8),
        ("station", "A b"),
        ("anchors", []),
        ("anchors", ["!"]),
        ("not_after", "tomorrow"),
        ("lease", "x"),
        ("v", 2),
        ("more", 1),
    ],
)
def test_a_lease_that_makes_no_sense_is_refused(member: str, value: object) -> None:
    members = json.loads(LEASE.encode()) | {member: value}
    octets = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(MalformedMessageError):
        parse_lease(octets)


@pytest.mark.parametrize(
    ("after_days", "floor_days", "number", "refusal"),
    [
        (0, 0, 1, None),
        (6.9, 6.9, 10, None),
        (0, 0, 11, Refusal.SPENT),
        (7, 0, 1, Refusal.EXPIRED),
        (365, 0, 1, Refusal.EXPIRED),
        (1, 3, 1, Refusal.CLOCK_WENT_BACK),
        (-365, 0, 1, Refusal.CLOCK_WENT_BACK),
        (-365, -400, 1, Refusal.NOT_YET),
        (8, 8, 11, Refusal.SPENT),
        # A little behind is no fault, but what is known to be over is over.
        (6.999, 7, 1, Refusal.EXPIRED),
    ],
)
def test_every_state_of_a_lease_has_its_answer(
    after_days: float, floor_days: float, number: int, refusal: Refusal | None
) -> None:
    now, floor = NOON + timedelta(days=after_days), NOON + timedelta(days=floor_days)
    assert LEASE.refusal(now=now, floor=floor, next_number=number) is refusal


@given(TIMES, st.integers(1, 2**32 - 1), st.binary(min_size=9, max_size=9))
def test_a_serial_under_a_lease_tells_its_number(now: datetime, number: int, randomness: bytes) -> None:
    serial = leased_serial(now=now, number=number, randomness=randomness)
    assert leased_number(serial) == number
    assert 0x40 <= int(serial[:2], 16) <= 0x7F


@given(st.text(min_size=4, max_size=64).filter(str.isprintable), st.text(max_size=64))
def test_a_verifier_knows_its_badge_and_no_other(badge: str, other: str) -> None:
    verifier = verifier_of(Secret(badge), salt=b"salt", work_factor=1)
    assert who_shows(Secret(badge), [("bob", "garbage"), ("ada", verifier)]) == "ada"
    assert (who_shows(Secret(other), [("ada", verifier)]) == "ada") is (other == badge)
    assert base64.b64encode(badge.encode()).decode() not in verifier


@pytest.mark.parametrize("badge", ["", "123", "x" * 65, "a\nbcd"])
def test_what_is_no_badge_is_refused(badge: str) -> None:
    with pytest.raises(MalformedMessageError):
        verifier_of(Secret(badge), salt=b"salt", work_factor=1)


@pytest.mark.parametrize("verifier", ["", "scrypt", "scrypt$99$AA==$AA==", "md5$1$AA==$AA==", "scrypt$x$$"])
def test_a_verifier_that_cannot_be_read_is_nobodys(verifier: str) -> None:
    assert who_shows(Secret("1234"), [("ada", verifier)]) is None
