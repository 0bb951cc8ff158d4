"""Reads the plan of a rollout out of TOML; every fault is told with its line and a way out.

It reads what is written and nothing else: whether the plan can be met, the fleet decides.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from device_agent.wire.configuration import BOUNDS, AgentConfiguration
from fleet.core.query_text import parse_query
from fleet.core.rollout import Gate, RolloutKind
from fleet.core.rollout_plan import Count, Matching, OnHalt, Percent, Plan, Rest, Wave, WaveSize
from fleet.core.station_rules import Shift
from fleet.errors import BadInputError
from fleet.toml_section import Section, Where

LONGEST_PLAN = 32 * 1024

_LONGEST_QUERY = 4096
_LONGEST_NOTE = 512
_LONGEST_NAME = 96
_MOST_WAVES = 32
_MOST_WINDOWS = 32
_MOST_A_MINUTE = 10_000_000
_LENGTH = re.compile(r"([0-9]{1,7})([smhd])", re.ASCII)
_LONGEST = timedelta(days=365)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TARGETS: Mapping[RolloutKind, tuple[str, str]] = {
    RolloutKind.PROFILE: ("profile", "prod/short-lived"),
    RolloutKind.CA: ("ca", "prod/device-2"),
    RolloutKind.TRUST: ("realm", "prod"),
}
"""Under which key a kind names its target, and an example."""

_Read = TypeVar("_Read")


def read_plan(text: str, *, source: str = "plan") -> Plan:
    """Return the plan that a text holds.

    Raises:
        BadInputError: with `source:line:` and what to do.
    """
    if len(text) > LONGEST_PLAN:
        raise BadInputError(
            f"{source} is larger than {LONGEST_PLAN} characters", hint="is it the right file?"
        )
    try:
        members = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{source}: {error}", hint="see https://toml.io for the syntax") from error
    except RecursionError as error:
        raise BadInputError(
            f"{source}: lists within lists, too deep", hint="see https://toml.io for the syntax"
        ) from error
    top = Section(members, where=Where(source=source, text=text), path=())
    plan = _plan(top)
    top.close()
    return plan


def stored_plan(text: str) -> Plan:
    """Return a plan that was read before it was stored."""
    return read_plan(text, source="stored plan")


def _plan(top: Section) -> Plan:
    section = top.section("rollout")
    kind = section.word("kind", RolloutKind.REKEY, words=RolloutKind)
    target = _target(section, kind)
    select = section.text("select", "", longest=_LONGEST_QUERY)
    _checked(section, "select", parse_query, select)
    settings = _settings(top, section, kind)
    plan = Plan(
        name=section.label("name"),
        kind=kind,
        select=select,
        percentage=section.fraction("percentage", 100.0, bounds=(0.001, 100.0)),
        salt=section.text("salt", "", longest=64),
        target=target,
        settings=settings,
        waves=_waves(section),
        gate=_gate(top.section("gate")),
        rate_per_minute=section.integer("rate_per_minute", 60, bounds=(1, _MOST_A_MINUTE)),
        windows=_windows(section),
        ends=_ends(section),
        on_halt=section.word("on_halt", OnHalt.STOP, words=OnHalt),
        note=section.text("note", "", longest=_LONGEST_NOTE),
    )
    section.close()
    return plan


def _target(section: Section, kind: RolloutKind) -> str:
    if kind not in _TARGETS:
        return ""
    key, example = _TARGETS[kind]
    target = section.text(key, "", longest=_LONGEST_NAME)
    domain, slash, name = target.partition("/")
    if not domain or (bool(slash and name) is (kind is RolloutKind.TRUST)):
        raise section.error(key, f"a rollout of kind {kind} names its {key}", hint=f'{key} = "{example}"')
    return target


def _settings(top: Section, section: Section, kind: RolloutKind) -> AgentConfiguration:
    if kind is not RolloutKind.CONFIGURATION:
        return AgentConfiguration()
    table = top.section("configuration")
    if not table.names():
        hint = "[configuration], then one or more of " + ", ".join(BOUNDS)
        raise section.error("kind", "a rollout of kind configuration says which settings", hint=hint)
    found = {name: table.integer_or_none(name, bounds=bounds) for name, bounds in BOUNDS.items()}
    table.close()
    return AgentConfiguration(**found)


def _waves(section: Section) -> tuple[Wave, ...]:
    texts = section.texts("waves", (), most=_MOST_WAVES)
    if len(texts) < 2:
        raise section.error(
            "waves",
            "a rollout has a pilot, and one wave or more after it",
            hint='waves = ["group=pilot", "10%", "rest"]',
        )
    names = ("pilot", *(f"wave {number}" for number in range(2, len(texts) + 1)))
    found = tuple(
        Wave(name=name, size=_checked(section, "waves", _size, text))
        for name, text in zip(names, texts, strict=True)
    )
    if any(isinstance(wave.size, Rest) for wave in found[:-1]):
        raise section.error("waves", "nothing comes after the rest", hint="put 'rest' last")
    return found


def _size(text: str) -> WaveSize:
    """Read `50`, `10%`, `rest`, or a query."""
    if text == "rest":
        return Rest()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return Count(devices=int(text))
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?%", text, re.ASCII):
        return Percent(percent=float(text[:-1]))
    parse_query(text)
    return Matching(query=text)


def _gate(section: Section) -> Gate:
    usual = Gate()
    gate = Gate(
        updated=section.fraction("updated", usual.updated, bounds=(0.0, 1.0)),
        failed=section.fraction("failed", usual.failed, bounds=(0.0, 1.0)),
        least=section.integer("least", usual.least, bounds=(1, 10_000_000)),
        patience=_length(section, "patience", usual.patience),
        soak=_length(section, "soak", usual.soak),
    )
    section.close()
    return gate


def _length(section: Section, name: str, usual: timedelta) -> timedelta:
    text = section.text(name, "", longest=16)
    if not text:
        return usual
    found = _LENGTH.fullmatch(text)
    length = timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found is not None else _LONGEST * 2
    if length > _LONGEST or (name == "patience" and not length):
        raise section.error(
            name,
            f"{name} is a length of time, at most {_LONGEST.days}d",
            hint=f'such as {name} = "30m", 90s, 2h, 7d',
        )
    return length


def _windows(section: Section) -> tuple[Shift, ...]:
    texts = section.texts("windows", (), most=_MOST_WINDOWS)
    return tuple(_checked(section, "windows", Shift.parse, text) for text in texts)


def _ends(section: Section) -> datetime | None:
    text = section.text("ends", "", longest=32)
    if not text:
        return None
    try:
        ends = datetime.fromisoformat(text)
        if ends.tzinfo is None:
            raise ValueError(text)
        return ends.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError) as error:
        hint = 'ends = "2027-03-31T18:00:00+02:00"'
        raise section.error("ends", "ends is a time with its zone", hint=hint) from error


def _checked(section: Section, name: str, read: Callable[[str], _Read], text: str) -> _Read:
    """Read a member by somebody else's rules, whose error gets this file's line."""
    try:
        return read(text)
    except BadInputError as error:
        hint = error.hint or "fleet rollout plan --help"
        raise section.error(name, f"{name}: {error}", hint=hint) from error
