"""The guard's C and our Python are two readings of one rule: they must agree on every input.

The parsers and the rules are compiled by themselves, with the compiler's own checks on, and called directly.
"""

import ctypes
import hashlib
import subprocess
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint8, c_uint64, c_void_p
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.broker.guard import build
from fleet.broker.listing import Head, change_text, whole_list
from fleet.core import access, isolation
from fleet.core.access import Who
from fleet.core.isolation import SharedLink
from fleet.grants import Action, Effect, Grant, GrantSet
from fleet.model import Allowlist, AllowlistChange, AllowlistEntry, Purpose

pytestmark = pytest.mark.needs("gcc")

GENERATION = "0011223344556677"
SERIAL = "4" * 32
KEY_HASH = "ab" * 32
PURPOSES = (Purpose.DEVICE, Purpose.CLAIM, Purpose.SERVICE, Purpose.BACKEND)
PARTS = ("text.c", "rules.c", "isolation.c", "allowlist.c", "listing.c")
STRICT = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wconversion",
    "-fsanitize=undefined",
    "-fno-sanitize-recover",
)
DONE = 0
ROOM_FOR_RULES = 64 * 1024


class Span(ctypes.Structure):
    _fields_: ClassVar = [("at", c_char_p), ("length", c_size_t)]


class CWho(ctypes.Structure):
    _fields_: ClassVar = [
        ("purpose", c_int),
        ("access", c_uint64),
        ("name", Span),
        ("serial", Span),
        ("client", Span),
    ]


class CLink(ctypes.Structure):
    _fields_: ClassVar = [
        ("issuer", Span),
        ("serial", Span),
        ("run", Span),
        ("number", c_uint64),
        ("client_id_length", c_size_t),
        ("client_id", c_char * 129),
    ]


class CAllowlist(ctypes.Structure):
    _fields_: ClassVar = [
        ("generation", c_uint8 * 8),
        ("sequence", c_uint64),
        ("count", c_size_t),
        ("digest", c_uint8 * 32),
    ]


def span(data: bytes) -> Span:
    return Span(at=data, length=len(data))


def text_of(found: Span) -> str:
    return found.at[: found.length].decode()


class Guard:
    """The parts of the guard that touch no broker."""

    def __init__(self, library: Path) -> None:
        self.c = ctypes.CDLL(str(library))
        for name in ("rules_publish", "rules_receive", "rules_subscribe", "rules_client", "rules_read"):
            getattr(self.c, name).restype = c_bool
        self.c.isolation_read_answer.restype = c_bool
        self.c.isolation_read_answer.argtypes = [Span, c_void_p, c_void_p]
        self.c.isolation_write_request.restype = c_size_t
        self.c.isolation_write_request.argtypes = [c_void_p, Span, c_char_p, c_size_t]
        self.c.listing_read.argtypes = [Span, POINTER(POINTER(CAllowlist))]
        self.c.listing_change.argtypes = [POINTER(CAllowlist), POINTER(Span), POINTER(c_void_p)]
        self.c.listing_replay.argtypes = [POINTER(CAllowlist), Span]
        self.c.allowlist_free.argtypes = [POINTER(CAllowlist)]
        self.c.listing_free_removed.argtypes = [c_void_p]
        self.c.rules_read.argtypes = [c_void_p, Span]
        self.rules = ctypes.create_string_buffer(ROOM_FOR_RULES)

    def reads_rules(self, text: bytes) -> bool:
        return bool(self.c.rules_read(self.rules, span(text)))

    def allows(self, name: str, who: Who, topic: str) -> bool:
        return bool(getattr(self.c, name)(self.rules, byref(c_who(who)), topic.encode()))

    def takes_client(self, who: Who) -> bool:
        return bool(self.c.rules_client(self.rules, byref(c_who(who))))

    def request(self, link: SharedLink, topic: str) -> str:
        run, _, number = link.name.partition("-")
        client_id = link.client_id.encode()
        given = CLink(
            issuer=span(link.issuer.encode()),
            serial=span(link.serial.encode()),
            run=span(run.encode()),
            number=int(number),
            client_id_length=len(client_id),
            client_id=client_id,
        )
        room = 1024
        written = ctypes.create_string_buffer(room)
        length = self.c.isolation_write_request(byref(given), span(topic.encode()), written, room)
        assert length == len(written.value)
        return written.value.decode()

    def answer(self, topic: str) -> tuple[SharedLink, str] | None:
        found, shared, text = CLink(), Span(), topic.encode()
        if not self.c.isolation_read_answer(span(text), byref(found), byref(shared)):
            return None
        link = SharedLink(
            issuer=text_of(found.issuer),
            serial=text_of(found.serial),
            client_id=found.client_id.decode("utf-8", "surrogateescape"),
            name=f"{text_of(found.run)}-{found.number}",
        )
        return link, text_of(shared)

    def read(self, text: bytes) -> "CList | None":
        found = POINTER(CAllowlist)()
        result = self.c.listing_read(span(text), byref(found))
        assert (result == DONE) == bool(found)
        return CList(self.c, found) if found else None


class CList:
    def __init__(self, c: ctypes.CDLL, found: "ctypes._Pointer[CAllowlist]") -> None:
        self.c, self.found = c, found

    def change(self, text: bytes) -> int:
        removed = c_void_p()
        result = int(self.c.listing_change(self.found, byref(span(text)), byref(removed)))
        self.c.listing_free_removed(removed)
        return result

    def replay(self, text: bytes) -> int:
        return int(self.c.listing_replay(self.found, span(text)))

    def head(self) -> Head:
        held = self.found.contents
        return Head(
            generation=bytes(held.generation).hex(),
            sequence=held.sequence,
            count=held.count,
            digest=int.from_bytes(bytes(held.digest), "big"),
        )

    def free(self) -> None:
        self.c.allowlist_free(self.found)


def c_who(who: Who) -> CWho:
    return CWho(
        purpose=PURPOSES.index(who.purpose),
        access=who.access,
        name=span(who.name.encode()),
        serial=span(who.serial.encode()),
        client=span(who.client_id.encode()),
    )


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    library = tmp_path_factory.mktemp("guard") / "parts.so"
    sources = [str(build.SOURCES / name) for name in PARTS]
    command = [
        "gcc",
        "-std=c11",
        "-O1",
        "-D_GNU_SOURCE",
        *STRICT,
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        *sources,
    ]
    subprocess.run([*command, "-lcrypto"], check=True, timeout=120)
    guard = Guard(library)
    assert guard.reads_rules(access.compiled().encode())
    return guard


def test_the_whole_guard_compiles_without_a_warning(tmp_path: Path) -> None:
    assert build.build(tmp_path, flags=("-Werror", "-Wshadow", "-Wconversion")).is_file()


# Topics and client ids.

WORDS = (
    "fleet v1 devices prod lab d1 d1:x d2 enroll request response notice state $share g $fleet guard events"
    " $aws certificates create-from-csr json accepted provisioning-templates provision"
)
LEVEL = st.sampled_from(["", "+", "#", "+x", "x#", SERIAL, KEY_HASH, *WORDS.split()])
TOPIC = st.lists(LEVEL, min_size=1, max_size=8).map("/".join)
NAME = st.sampled_from(
    ["prod:d1", "prod:d1:x", "lab:d2", "batch-1", "fleet-server", ":d1", "prod:", "prod.b", ""]
)
CLIENT = NAME | st.sampled_from(
    [
        KEY_HASH,
        KEY_HASH[1:],
        "sdk-1",
        "a\x01",
        "a\x7f",
        "x" * 128,
        "x" * 129,
        "a" * 32 + ":b",
        "a" * 33 + ":b",
        "fleet-server.a",
        "fleet-server.",
        "fleet-server.A",
        "+",
        "#",
    ]
)
WHO = st.builds(
    Who,
    purpose=st.sampled_from(PURPOSES),
    name=NAME,
    serial=st.sampled_from([SERIAL, ""]),
    client_id=CLIENT | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70),
)
DEVICE = Who(purpose=Purpose.DEVICE, name="prod:d1", serial=SERIAL, client_id="prod:d1")


@given(WHO, TOPIC | st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=40))
@example(DEVICE, "devices/prod/d1/#")
@example(DEVICE, "devices/prod/d1")
@example(DEVICE, "")
def test_both_judge_topics_alike(guard: Guard, who: Who, topic: str) -> None:
    ours = (access.may_publish(who, topic), access.may_receive(who, topic), access.may_subscribe(who, topic))

    theirs = tuple(
        guard.allows(name, who, topic) for name in ("rules_publish", "rules_receive", "rules_subscribe")
    )

    assert theirs == ours


PATTERN_LEVEL = st.sampled_from(["+", "{domain}", "{id}", "{serial}", "devices", "prod", "d1", "x", "lab"])
PATTERN = st.tuples(st.lists(PATTERN_LEVEL, min_size=1, max_size=5), st.sampled_from([[], ["#"]])).map(
    lambda parts: "/".join(parts[0] + parts[1])
)
GRANT = st.builds(Grant, effect=st.sampled_from(Effect), action=st.sampled_from(Action), pattern=PATTERN)
CLASSES = st.dictionaries(
    st.integers(min_value=0, max_value=4) | st.just(2**62),
    st.builds(GrantSet, purpose=st.sampled_from(PURPOSES), grants=st.lists(GRANT, max_size=5).map(tuple)),
    max_size=4,
)
GRANTED_TOPIC = st.lists(
    st.sampled_from(["+", "#", "devices", "prod", "d1", "x", "lab", "", SERIAL]), min_size=1, max_size=6
).map("/".join)


@given(CLASSES, st.lists(st.tuples(WHO, st.integers(0, 4), GRANTED_TOPIC), min_size=1, max_size=20))
@example(
    {
        1: GrantSet(
            purpose=Purpose.DEVICE,
            grants=(
                Grant(effect=Effect.DENY, action=Action.SUBSCRIBE, pattern="x/#"),
                Grant(effect=Effect.ALLOW, action=Action.SUBSCRIBE, pattern="x/#"),
            ),
        )
    },
    [(DEVICE, 1, "x")],
)
def test_both_judge_the_grants_of_a_policy_alike(
    guard: Guard, classes: dict[int, GrantSet], questions: list[tuple[Who, int, str]]
) -> None:
    governed = Guard.__new__(Guard)
    governed.c, governed.rules = guard.c, ctypes.create_string_buffer(ROOM_FOR_RULES)
    assert governed.reads_rules(access.compiled(classes).encode())

    for who, number, topic in questions:
        asked = replace(who, access=number)
        ours = [
            judge(asked, topic, classes=classes)
            for judge in (access.may_publish, access.may_receive, access.may_subscribe)
        ]
        theirs = [
            governed.allows(name, asked, topic)
            for name in ("rules_publish", "rules_receive", "rules_subscribe")
        ]
        assert theirs == ours
    guard.c.rules_free(governed.rules)


@given(WHO)
def test_both_judge_client_ids_alike(guard: Guard, who: Who) -> None:
    assert guard.takes_client(who) == (access.why_not(who, keepalive_s=10, clean_session=True) != "client-id")


@given(st.binary(max_size=200), st.data())
def test_rules_that_are_not_ours_are_refused(guard: Guard, garbage: bytes, data: st.DataObject) -> None:
    good = access.compiled().encode()
    cut = data.draw(st.integers(min_value=0, max_value=len(good) - 1))
    spare = Guard.__new__(Guard)
    spare.c, spare.rules = guard.c, ctypes.create_string_buffer(ROOM_FOR_RULES)

    assert not spare.reads_rules(garbage)
    assert not spare.reads_rules(good[:cut])
    assert not spare.reads_rules(good + garbage) or not garbage
    assert not spare.reads_rules(good[:cut] + b"\x00" + good[cut:])


# Topics of single connections.

TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=32)
LINK = st.builds(
    SharedLink,
    issuer=st.binary(min_size=1, max_size=32).map(bytes.hex),
    serial=st.binary(min_size=16, max_size=16).map(bytes.hex),
    client_id=TEXT,
    name=st.builds("{:016x}-{}".format, st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1)),
)


@given(LINK, TEXT)
@example(SharedLink(issuer="ab", serial=SERIAL, client_id="a/+#$ b", name="0" * 16 + "-0"), "x")
def test_the_guard_writes_requests_that_the_server_reads(guard: Guard, link: SharedLink, rest: str) -> None:
    topic = f"$aws/{rest}"

    assert guard.request(link, topic) == link.request(topic)
    assert isolation.parse_request(link.request(topic)) == (link, topic)


@given(LINK, TEXT)
def test_the_guard_reads_answers_that_the_server_writes(guard: Guard, link: SharedLink, rest: str) -> None:
    topic = f"$aws/{rest}"

    assert guard.answer(link.answer(topic)) == (link, topic)
    assert isolation.parse_answer(link.answer(topic)) == (link, topic)


@given(LINK, st.data())
def test_both_read_the_same_answers(guard: Guard, link: SharedLink, data: st.DataObject) -> None:
    good = link.answer("$aws/x/accepted")
    place = data.draw(st.integers(min_value=0, max_value=len(good) - 1))
    cut = data.draw(st.integers(min_value=0, max_value=3))
    put = data.draw(st.sampled_from(["", "/", "0", "g", "-", "%", "00", "ff", " ", "response"]))
    changed = good[:place] + put + good[place + cut :]
    try:
        expected = isolation.parse_answer(changed)
    except MalformedMessageError:
        expected = None

    found = guard.answer(changed)

    # Client ids of MQTT are UTF-8 and hold no NUL: neither reading finds a connection by another.
    if expected is not None and "\0" in expected[0].client_id:
        expected = None
    if found is not None and not is_utf8(found[0].client_id):
        found = None
    assert found == expected


def is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# Lists and changes.


def entry(number: int) -> AllowlistEntry:
    return AllowlistEntry(
        issuer=f"{number % 3:02x}" * 20,
        serial=f"{number:032x}",
        fingerprint=hashlib.sha256(str(number).encode()).hexdigest(),
        name=f"prod:d{number % 5}",
        purpose=PURPOSES[number % 4],
        access=number % 7,
        not_after=datetime(2030, 1, 1, tzinfo=UTC),
    )


NUMBERS = st.sets(st.integers(min_value=1, max_value=400), max_size=200)


@given(NUMBERS, st.integers(min_value=0, max_value=2**62))
def test_both_hold_the_same_list(guard: Guard, numbers: set[int], sequence: int) -> None:
    allowlist = Allowlist(sequence=sequence, entries=tuple(map(entry, sorted(numbers))))
    head, text = whole_list(allowlist, generation=GENERATION)

    held = guard.read(text)

    assert held is not None
    assert held.head() == head
    held.free()


@given(NUMBERS, NUMBERS, st.data())
def test_both_hold_the_same_list_after_changes(
    guard: Guard, first: set[int], added: set[int], data: st.DataObject
) -> None:
    removed = data.draw(st.sets(st.sampled_from(sorted(first)))) if first else set()
    moved = data.draw(st.sets(st.sampled_from(sorted(removed)))) if removed else set()
    head, text = whole_list(Allowlist(sequence=1, entries=tuple(map(entry, first))), generation=GENERATION)
    change = AllowlistChange(
        sequence=2,
        added=(*map(entry, added - first), *(replace(entry(number), access=9) for number in moved)),
        removed=tuple(map(entry, removed)),
    )
    changed = change_text(change, generation=GENERATION)
    for apply in (CList.change, CList.replay):
        held = guard.read(text)
        assert held is not None
        assert apply(held, changed) == DONE
        assert held.head() == head.after(change)
        held.free()


@given(NUMBERS, NUMBERS)
def test_a_change_that_does_not_fit_changes_nothing(guard: Guard, first: set[int], other: set[int]) -> None:
    allowlist = Allowlist(sequence=1, entries=tuple(map(entry, first)))
    head, text = whole_list(allowlist, generation=GENERATION)
    held = guard.read(text)
    assert held is not None
    misfits = [
        AllowlistChange(sequence=3),
        AllowlistChange(sequence=1),
        AllowlistChange(sequence=2, added=tuple(map(entry, other - first)), removed=(entry(401),)),
    ]
    if first:
        misfits.append(AllowlistChange(sequence=2, added=tuple(map(entry, {*other, min(first)}))))
    for misfit in misfits:
        assert held.change(change_text(misfit, generation=GENERATION)) != DONE
        assert held.head() == head
    assert held.change(change_text(AllowlistChange(sequence=2), generation="ff" * 8)) != DONE
    held.free()


@given(NUMBERS, st.data())
def test_a_text_with_any_byte_wrong_or_missing_is_refused(
    guard: Guard, numbers: set[int], data: st.DataObject
) -> None:
    allowlist = Allowlist(sequence=1, entries=tuple(map(entry, sorted(numbers))))
    _, text = whole_list(allowlist, generation=GENERATION)
    place = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    other = data.draw(st.integers(min_value=0, max_value=255).filter(lambda byte: byte != text[place]))

    assert guard.read(text[:place] + bytes([other]) + text[place + 1 :]) is None
    assert guard.read(text[:place]) is None
    assert guard.read(text[:place] + bytes([other]) + text[place:]) is None


@given(st.binary(max_size=400))
@example(b"fleet-allowlist 1 0011223344556677 1 18446744073709551615\n")
@example(b"fleet-allowlist 1 0011223344556677 1 20000000\n" + b"x" * 100)
def test_garbage_is_no_list_and_no_change(guard: Guard, garbage: bytes) -> None:
    held = guard.read(whole_list(Allowlist(sequence=1), generation=GENERATION)[1])
    assert held is not None

    assert guard.read(garbage) is None
    assert held.change(garbage) != DONE
    assert held.replay(garbage) != DONE or not garbage
    held.free()
