"""What a line asks of a unit: its label, a jig's verdict, and whether it belongs here at all."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from fleet.errors import BadInputError
from fleet.station.line.gate import Gate, Place
from fleet.station.line.hotplug import Adapter, UsbRule, watched
from fleet.station.line.jig import Jig
from fleet.station.line.scanner import Kind, Labels, Use, parse_scan
from fleet.station.link import steps
from fleet.station.link.causes import Cause, cause_of_silence
from fleet.station.telling.book import Book

HELLO = HelloReply(nonce=b"n" * 16, hardware_id="hw-1", model="press", state=LinkState.FRESH)
ONE, TWO = (Place(port=f"/dev/ttyUSB{lane}", lane=lane) for lane in (1, 2))


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    async with Book.opened(tmp_path / "line.db", clock=lambda: datetime(2026, 3, 1, tzinfo=UTC)) as opened:
        yield opened


def scanned(labels: Labels, *lines: str) -> Labels:
    for line in lines:
        labels.take(parse_scan(line))
    return labels


async def cause_at(gate: Gate, place: Place, hello: HelloReply = HELLO) -> Cause:
    found = await gate.admit(place, hello)
    assert isinstance(found, steps.Hold | steps.Refuse)
    return found.cause


async def test_without_a_scanner_nobody_is_asked_for_a_label() -> None:
    assert await Gate().admit(ONE, HELLO) == (HELLO, "")


async def test_a_unit_waits_for_its_label_and_keeps_it(book: Book) -> None:
    labels = Labels()
    gate = Gate(book=book, labels=labels)
    assert await cause_at(gate, ONE) is Cause.SCAN_LABEL
    scanned(labels, "LBL-1")
    assert await gate.admit(ONE, HELLO) == (HELLO, "LBL-1")
    assert await gate.admit(TWO, HELLO) == (HELLO, "LBL-1"), "known again, at any port"
    assert await cause_at(gate, ONE, replace(HELLO, hardware_id="hw-2")) is Cause.SCAN_LABEL, "used once"


async def test_a_lane_that_was_scanned_first_gets_the_label(book: Book) -> None:
    gate = Gate(book=book, labels=scanned(Labels(), "LANE 2", "LBL-2"))
    assert await cause_at(gate, ONE) is Cause.SCAN_LABEL
    assert await gate.admit(TWO, HELLO) == (HELLO, "LBL-2")


async def test_a_label_of_another_unit_and_another_label_of_a_unit_are_told(book: Book) -> None:
    labels = Labels()
    gate = Gate(book=book, labels=labels)
    scanned(labels, "LBL-1")
    await gate.admit(ONE, HELLO)
    scanned(labels, "LBL-1")
    assert await cause_at(gate, ONE, replace(HELLO, hardware_id="hw-2")) is Cause.OTHER_LABEL
    scanned(labels, "LBL-9")
    assert await cause_at(gate, ONE) is Cause.OTHER_LABEL


async def test_a_label_can_be_the_device_id(book: Book) -> None:
    labels = Labels(use=Use.ID)
    gate = Gate(book=book, labels=labels)
    scanned(labels, "spring-0001")
    assert await gate.admit(ONE, HELLO) == (replace(HELLO, device_id="spring-0001"), "spring-0001")
    scanned(labels, "spring 2")
    assert await cause_at(gate, ONE, replace(HELLO, hardware_id="hw-2")) is Cause.OTHER_LABEL
    scanned(labels, "spring-0003")
    other = replace(HELLO, hardware_id="hw-3", device_id="autumn-1")
    assert await cause_at(gate, ONE, other) is Cause.OTHER_LABEL


async def test_a_unit_of_another_model_is_the_wrong_device() -> None:
    assert await cause_at(Gate(models=frozenset({"pump"})), ONE) is Cause.WRONG_DEVICE
    assert await Gate(models=frozenset({"press"})).admit(ONE, HELLO) == (HELLO, "")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("LANE 7\n", Kind.LANE),
        ("lane:007", Kind.LANE),
        ("LANE 0", Kind.LABEL),
        ("BADGE 1234", Kind.BADGE),
        ("LBL-1", Kind.LABEL),
        ("\x1b[A", Kind.UNKNOWN),
        ("é", Kind.UNKNOWN),
        ("x" * 65, Kind.UNKNOWN),
        ("", Kind.UNKNOWN),
    ],
)
def test_what_a_scanner_types_is_known(line: str, kind: Kind) -> None:
    assert parse_scan(line).kind is kind


@pytest.mark.parametrize(
    "line",
    [
        "fleet-code:K7QD-22XC:prod:d1",
        "FLEET-CODE:X",
        "]Q1fleet-code:X",
        "\ufefffleet-code:X",
        "+fleet-code:X",
    ],
)
def test_a_one_time_code_is_never_taken_for_a_label_nor_shown(line: str) -> None:
    labels = Labels()
    scan = labels.take(parse_scan(line))
    assert scan.kind is Kind.CODE
    assert scan.text.lower().startswith("fleet-code:")
    assert labels.give(1) == ""


def test_what_a_scanner_says_of_the_bar_code_itself_is_no_part_of_it() -> None:
    assert parse_scan("]C0BADGE 1234") == parse_scan("BADGE 1234")
    assert parse_scan("]E0LBL-1").text == "LBL-1"


@given(st.text())
def test_nothing_that_is_typed_breaks_the_reader(line: str) -> None:
    scan = Labels().take(parse_scan(line))
    assert scan.kind is not Kind.LABEL or scan.text.isascii()


def jig(program: str, seconds: float = 30.0) -> Jig:
    return Jig(command=(sys.executable, "-c", program), seconds=seconds)


async def verdict(program: str, seconds: float = 30.0) -> steps.Decision:
    return await Gate(jig=jig(program, seconds)).test({"device_id": "d1", "port": "/dev/ttyUSB0"})


async def test_a_jig_says_yes_and_knows_the_unit() -> None:
    asked = "import os; assert os.environ['FLEET_DEVICE_ID'] == 'd1' and os.environ['FLEET_PORT']"
    assert await verdict(asked) == steps.Recorded()


async def test_a_jig_says_no_and_its_last_line_says_why() -> None:
    said = await verdict("print('volts 3.1'); print('RF level\\x1b[2J too low'); raise SystemExit(3)")
    assert isinstance(said, steps.Doubt)
    assert said.cause is Cause.TEST_FAILED
    assert said.reason == "the test jig says no (exit code 3): RF level?[2J too low"


@pytest.mark.parametrize(
    ("program", "seconds"),
    [
        ("raise SystemExit(75)", 30.0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 30.0),
        ("import time; time.sleep(600)", 0.1),
    ],
)
async def test_a_jig_without_a_verdict_says_nothing_of_the_unit(program: str, seconds: float) -> None:
    said = await verdict(program, seconds)
    assert isinstance(said, steps.Hold)
    assert said.cause is Cause.JIG_AWAY


@pytest.mark.parametrize(("code", "kind"), [(0, steps.Recorded), (4, steps.Doubt)])
async def test_what_a_jig_left_running_is_ended_and_changes_no_verdict(
    code: int, kind: type[steps.Decision], tmp_path: Path
) -> None:
    left = tmp_path / "left"
    said = await verdict(
        "import os, pathlib; child = os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '99')\n"
        f"pathlib.Path({str(left)!r}).write_text(str(child))\nos._exit({code})"
    )
    assert isinstance(said, kind)
    async with asyncio.timeout(10):
        while not has_gone(int(left.read_text())):  # noqa: ASYNC110 - nothing tells of a stranger's child
            await asyncio.sleep(0)


def has_gone(process: int) -> bool:
    """Tell whether a process has ended, be it that nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_jig_that_is_not_there_gives_no_verdict() -> None:
    said = await Gate(jig=Jig(command=("/nonexistent/jig",), seconds=1)).test({})
    assert isinstance(said, steps.Hold)


@pytest.mark.parametrize("text", ["", "   ", "'open"])
def test_a_command_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        Jig.parse(text, seconds=1)


def adapter(name: str, serial: str = "", product: int = 0x6001) -> Adapter:
    return Adapter(port=f"/dev/{name}", vendor=0x0403, product=product, serial=serial)


def test_adapters_are_chosen_by_vendor_product_and_serial() -> None:
    assert UsbRule.parse("0403:6001").fits(adapter("ttyUSB0", "A1"))
    assert UsbRule.parse("0403:6001:A1").fits(adapter("ttyUSB0", "A1"))
    assert not UsbRule.parse("0403:6001:A2").fits(adapter("ttyUSB0", "A1"))
    assert not UsbRule.parse("0403:6001").fits(adapter("ttyUSB0", product=0x6015))


@pytest.mark.parametrize("text", ["", "0403", "403:6001", "0403:600g", "0403:6001:", "0403:6001:a b"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        UsbRule.parse(text)


async def test_what_is_plugged_in_and_out_is_told_when_it_changes() -> None:
    looks = iter(
        [
            [adapter("ttyUSB0")],
            [adapter("ttyUSB0"), adapter("ttyACM0", product=1)],
            [adapter("ttyUSB0"), adapter("ttyUSB1")],
            [],
        ]
    )
    rules = (UsbRule.parse("0403:6001"),)
    found = []
    async for ports in watched(rules, look=lambda: next(looks), every=0):
        found.append(sorted(ports))
        if not ports:
            break
    assert found == [["/dev/ttyUSB0"], ["/dev/ttyUSB0", "/dev/ttyUSB1"], []]


@pytest.mark.parametrize(
    ("heard", "cause"),
    [
        (b"", Cause.NONE),
        (b"\x00\xff\x13", Cause.BAD_CABLE),
        (b"U-Boot 2024.01 (Jan 01 2024)\r\nDRAM: 512 MiB\r\n", Cause.OTHER_FIRMWARE),
        (b"\x1b[2Jlogin: \r\nlogin: \r\n", Cause.OTHER_FIRMWARE),
        (bytes(range(256)), Cause.BAD_CABLE),
        (b"\xf8\x00\xfe" * 40, Cause.BAD_CABLE),
    ],
)
def test_noise_and_other_firmware_are_told_apart(heard: bytes, cause: Cause) -> None:
    assert cause_of_silence(heard) is cause
