"""The firmware's own tests and lints, and its table of the life cycle beside the agent's."""

import subprocess
from collections.abc import Callable

import pytest

from device_agent.core import lifecycle
from device_agent.core.events import (
    Answer,
    Ask,
    Confirmed,
    Dead,
    Event,
    Facts,
    ForgetKey,
    KeyMade,
    MakeKey,
    Reported,
    Route,
    Send,
    Tick,
)
from device_agent.core.lifecycle import State
from device_agent.core.record import Credential, DeviceRecord, Pending
from device_agent.wire.replies import BrokerAddress, ReportedState
from device_agent.wire.requests import Proof, ProofKind
from firmware_scripts.mcu.building import TARGET, Workshop
from tests.homes import utc_now
from tests.mcu import ready_workshop

pytestmark = pytest.mark.needs("cargo")

NOW = utc_now()
UNHEARD = frozenset({Route.ACTIVE, Route.PENDING})
"""A device without TLS is heard at the recovery listener alone."""


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return ready_workshop()


def test_the_firmware_passes_its_own_tests(workshop: Workshop) -> None:
    assert "test result: ok" in workshop.run("test", "--lib")


def test_the_firmware_has_no_lint(workshop: Workshop) -> None:
    probe = subprocess.run(["cargo", "clippy", "--version"], capture_output=True, check=False)
    lint = "clippy" if probe.returncode == 0 else "check"
    denied = ("--", "-D", "warnings") if lint == "clippy" else ()
    workshop.run(lint, "--tests", "--examples", *denied)
    workshop.run(lint, "--features", "board", "--release", "--target", TARGET, *denied)


def credential(serial: str, key: str) -> Credential:
    return Credential(
        key=key,
        key_hash=key,
        serial=serial,
        certificate="",
        chain="",
        not_before=NOW,
        not_after=NOW,
        broker=BrokerAddress(host="h", port=1, name="prod:d1"),
    )


ACTIVE, NEXT = credential("01", "k1"), credential("02", "k2")
WAITING = Pending(key="k2", key_hash="k2", attempt=1)
INSTALLED = Pending(key="k2", key_hash="k2", attempt=1, credential=NEXT)
BY_STATION = Proof(kind=ProofKind.STATION)

RECORDS = {
    "Blank": DeviceRecord(),
    "Enrolling": DeviceRecord(pending=WAITING, proof=BY_STATION),
    "Renewing": DeviceRecord(active=ACTIVE, pending=WAITING),
    "Installed": DeviceRecord(active=ACTIVE, pending=INSTALLED, proof=BY_STATION),
    "Confirming": DeviceRecord(active=ACTIVE, pending=INSTALLED),
    "Settled": DeviceRecord(active=ACTIVE),
}
EVENTS: dict[str, Callable[[], Event]] = {
    "Asked": lambda: Tick(facts=Facts(refused=UNHEARD)),
    "AskedWhenDue": lambda: Tick(facts=Facts(due=True, refused=UNHEARD)),
    "KeyMade": lambda: KeyMade(key="k9", key_hash="k9", facts=Facts(refused=UNHEARD)),
    "Answer": lambda: Answer(credential=credential("03", "k2"), anchors=(), attempt_floor=0),
    "Confirmed": lambda: Confirmed(serial="02"),
    "Dead": lambda: Dead(key_hash="k2", attempt_floor=0),
    "Over": lambda: Reported(serial="01", state=ReportedState.SUPERSEDED),
}
EXPIRED = Reported(serial="01", state=ReportedState.EXPIRED)
ASKED = {Ask.RENEW: "Send(Renew)", Ask.CONFIRM: "Send(Confirm)", Ask.STATUS: "Send(Status)"}


def name_of(record: DeviceRecord) -> str:
    """Return what the firmware calls the state of a record."""
    by_station = record.proof is not None
    match lifecycle.state_of(record):
        case State.BLANK:
            return "Blank"
        case State.ENROLLING | State.RENEWING:
            return "Enrolling" if by_station else "Renewing"
        case State.CONFIRMING:
            return "Installed" if by_station else "Confirming"
        case State.SETTLING | State.SETTLED:
            return "Settled"
        case State.CLAIMED:
            raise AssertionError("a device of the line holds no proof without a key")


def agents_row(state: str, event: str) -> str:
    """Return the row of the agent's table as the firmware prints its own."""
    record = RECORDS[state]
    step = lifecycle.step(record, EVENTS[event]())
    words = [action_name(action) for action in step.actions]
    # DONE and its route are TLS's alone: the next renewal that is accepted says the same.
    told = [word for word in words if word]
    return f"{state} {event} {name_of(step.record)} {told[0] if told else 'Rest'}"


def action_name(action: object) -> str:
    match action:
        case MakeKey():
            return "MakeKey"
        case ForgetKey(key="k9"):
            return ""  # the firmware makes no key that nobody waits for
        case ForgetKey():
            return "ForgetKey"
        case Send(ask=Ask.DONE | Ask.ENROLL):
            return ""
        case Send(ask=ask):
            return ASKED[ask]
        case _:
            raise AssertionError(action)


def test_the_firmware_lives_by_the_table_of_the_agent(workshop: Workshop) -> None:
    rows = set(workshop.run("run", "--quiet", "--example", "table").splitlines())
    expected = {agents_row(state, event) for state in RECORDS for event in EVENTS}
    assert rows == expected


@pytest.mark.parametrize("state", RECORDS)
def test_an_expired_certificate_is_over_to_the_agent_as_a_superseded_one_is(state: str) -> None:
    record = RECORDS[state]
    assert lifecycle.step(record, EXPIRED) == lifecycle.step(record, EVENTS["Over"]())
