"""The reference of the serial protocol holds the tables of the code, as they are now."""

from pathlib import Path

import pytest

from device_agent.core.station_link import LARGEST_MESSAGE, TRANSITIONS
from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire.factory import Command, LinkState, Rc
from device_agent.wire.framing import MAX_LINE_BYTES, MAX_MESSAGE_BYTES
from device_agent.wire.objects import ObjectHashes, ObjectId, ReadableId
from device_agent.wire.smp import DEFAULT_GROUP
from fleet.station.keeping.life import LIFE, UnitState
from fleet.station.link.pace import CLEAN_CALLS_TO_GROW, SMALLEST_CHUNK
from fleet.station.link.steps import CALLS, QUESTIONS, REFUSALS, STEPS, Step

REFERENCE = Path(__file__).parents[5] / "docs" / "reference" / "serial-protocol.md"

_D32, _N16 = bytes(32), bytes(16)
_HASHES = ObjectHashes(chain=_D32, anchors=_D32, configuration=_D32)
_FULL_REQUESTS: tuple[requests.Request, ...] = (
    requests.Hello(nonce=_N16),
    requests.Attest(nonce=_N16),
    requests.Ident(device_id="d"),
    requests.Read(object_id=1, offset=0, length=1),
    requests.Write(object_id=ObjectId.CHAIN, offset=0, octets=b""),
    requests.Install(hashes=_HASHES, signature=b"s", station_chain=(b"c",)),
    requests.Prove(nonce=_N16),
    requests.Commit(fingerprint=_D32),
    requests.Abort(),
    requests.Status(),
    requests.Ask(nonce=_D32, time=0),
    requests.Hear(answer=b"a", signature=b"s", station_chain=(b"c",)),
)
_FULL_REPLIES: tuple[replies.Reply, ...] = (
    replies.HelloReply(nonce=_N16, hardware_id="h", state=LinkState.FRESH),
    replies.AttestReply(evidence=b"e", signature=b"s"),
    replies.IdentReply(length=1, digest=_D32),
    replies.ReadReply(octets=b""),
    replies.WriteReply(offset=0),
    replies.InstallReply(fingerprint=_D32, tofu=True),
    replies.ProveReply(signature=b"s"),
    replies.CommitReply(state=LinkState.ACTIVE, fingerprint=_D32),
    replies.AbortReply(),
    replies.StatusReply(state=LinkState.FRESH),
    replies.AskReply(
        kind=replies.Asked.RENEW,
        length=1,
        digest=_D32,
        certificate_length=1,
        fingerprint=_D32,
        signature=b"s",
    ),
    replies.HearReply(state=LinkState.ACTIVE),
)


def table(*rows: tuple[str, ...]) -> str:
    """Return rows as a Markdown table; the first is its head."""
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def names_of(members: dict[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in members) or "-"


def command_table() -> str:
    rows = [("cmd", "name", "op", "request", "reply")]
    for asked, answered in zip(_FULL_REQUESTS, _FULL_REPLIES, strict=True):
        command = asked.command
        op = requests.OPS[command]
        rows.append(
            (
                str(int(command)),
                command.name,
                str(int(op)),
                names_of(dict(asked.members())),
                names_of(dict(answered.members())),
            )
        )
    return table(*rows)


def refusal_table() -> str:
    rows = [("rc", "name", "the station takes it as")]
    rows += [(str(int(rc)), rc.name.lower().replace("_", " "), str(REFUSALS[rc])) for rc in Rc]
    return table(*rows)


def object_table() -> str:
    rows = [("direction", "object", "number")]
    rows += [("WRITE", one.name.lower().replace("_", " "), str(int(one))) for one in ObjectId]
    rows += [("READ", one.name.lower(), str(int(one))) for one in ReadableId]
    return table(*rows)


def device_table() -> str:
    rows = [("command", *(f"{state.name} ({int(state)})" for state in LinkState))]
    for command in Command:
        cells = (TRANSITIONS.get((state, command)) for state in LinkState)
        rows.append((command.name, *(_states(cell) if cell else "rc 2" for cell in cells)))
    return table(*rows)


def _states(found: frozenset[LinkState]) -> str:
    return " or ".join(state.name for state in sorted(found, reverse=True))


def station_table() -> str:
    rows = [("step", "leads to")]
    for step in (*CALLS, *QUESTIONS):
        ways: dict[Step, list[str]] = {}
        for (before, event), after in STEPS.items():
            if before is step:
                ways.setdefault(after, []).append(str(event))
        told = "; ".join(
            f"**{after}** on {', '.join(sorted(events))}" for after, events in sorted(ways.items())
        )
        rows.append((str(step), told))
    return table(*rows)


def ledger_table() -> str:
    rows = [("state", "leads to")]
    for state in UnitState:
        ways = [
            (event, after)
            for (before, event), after in LIFE.items()
            if before is state and after is not state
        ]
        rows.append((str(state), "; ".join(f"**{after}** on {event}" for event, after in ways) or "-"))
    return table(*rows)


TABLES = [command_table, refusal_table, object_table, device_table, station_table, ledger_table]


@pytest.mark.parametrize("made", TABLES, ids=lambda made: made.__name__)
def test_a_table_of_the_reference_is_that_of_the_code(made: object) -> None:
    assert callable(made)
    assert made() in REFERENCE.read_text()


def test_the_numbers_of_the_reference_are_those_of_the_code() -> None:
    text = REFERENCE.read_text()
    for sentence in (
        f"group {DEFAULT_GROUP}",
        f"at most {MAX_LINE_BYTES} bytes",
        f"at most {MAX_MESSAGE_BYTES} bytes",
        f"`mx` is {LARGEST_MESSAGE}",
        f"{CLEAN_CALLS_TO_GROW} calls",
        f"{SMALLEST_CHUNK} bytes",
    ):
        assert sentence in text
