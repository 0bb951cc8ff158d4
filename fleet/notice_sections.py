"""Reads `[notice]` out of `fleet.toml`: by which rules people are told, and how long it is tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleet.channel_sections import ChannelConfig, MailConfig, is_mail_address, read_channel
from fleet.core.matters import Matter, Severity, matters_of
from fleet.core.notification_rule import Escalation, QuietHours, Receiver, Rule
from fleet.core.station_rules import Shift
from fleet.errors import BadInputError
from fleet.toml_section import Section

_MOST_RULES = 64
_MOST_RECEIVERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeConfig:
    """Who is told of what, and when it is too much or too late."""

    channels: tuple[ChannelConfig, ...] = ()
    rules: tuple[Rule, ...] = ()
    give_up: timedelta = timedelta(hours=72)
    """From when a message was made to when it is no longer tried."""
    keep: timedelta = timedelta(days=365)
    """How long notifications are kept after they were made."""
    backup_age: timedelta = timedelta(days=7)
    """From when on the last backup is too old."""
    burst: int = 20
    """So many refusals of brokers ..."""
    burst_within: timedelta = timedelta(minutes=10)
    """... within such a time are a burst."""

    def rule(self, name: str) -> Rule | None:
        """Return a rule by its name, or None."""
        return next((rule for rule in self.rules if rule.name == name), None)


def read_notice(top: Section, *, domains: Sequence[str]) -> NoticeConfig:
    """Read the table `notice`, at its defaults where there is none; raises `BadInputError`."""
    section, usual = top.section("notice"), NoticeConfig()
    table = section.section("channels")
    channels = tuple(read_channel(table.section(name), name) for name in table.names())
    known = _Known(channels={each.name: each for each in channels}, domains=frozenset(domains))
    found = NoticeConfig(
        channels=channels,
        rules=_rules(section, known),
        give_up=timedelta(hours=section.integer("give_up_hours", _hours(usual.give_up), bounds=(1, 720))),
        keep=timedelta(days=section.integer("keep_days", usual.keep.days, bounds=(1, 3650))),
        backup_age=timedelta(days=section.integer("backup_days", usual.backup_age.days, bounds=(1, 3650))),
        burst=section.integer("burst", usual.burst, bounds=(1, 1_000_000)),
        burst_within=timedelta(
            minutes=section.integer("burst_minutes", _minutes(usual.burst_within), bounds=(1, 1440))
        ),
    )
    section.close()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a rule may name."""

    channels: Mapping[str, ChannelConfig]
    domains: frozenset[str]


def _rules(section: Section, known: _Known) -> tuple[Rule, ...]:
    found: dict[str, Rule] = {}
    for each in section.tables("rule", most=_MOST_RULES):
        rule = _rule(each, known)
        if rule.name in found:
            raise each.error("name", f"two rules are called {rule.name}", hint="give each a name of its own")
        found[rule.name] = rule
    return tuple(found.values())


def _rule(section: Section, known: _Known) -> Rule:
    usual = Rule(name="usual", matters=frozenset())
    days = [each.days for each in usual.thresholds]
    found = Rule(
        name=section.label("name"),
        matters=_matters(section),
        to=_receivers(section, known),
        owners=_owners(section, known),
        domains=_domains(section, known),
        thresholds=tuple(timedelta(days=each) for each in _days(section, days)),
        severity=_severity(section, "severity"),
        gather=timedelta(minutes=section.integer("gather_minutes", _minutes(usual.gather), bounds=(0, 1440))),
        quiet=_quiet(section),
        escalations=_escalations(section, known),
    )
    section.close()
    if not found.to and not found.owners:
        raise section.error("to", f"the rule {found.name} tells nobody", hint='such as to = ["log"]')
    return found


def _domains(section: Section, known: _Known) -> frozenset[str]:
    found = frozenset(section.texts("domains", (), most=64))
    if not found <= known.domains:
        names = ", ".join(sorted(known.domains))
        raise section.error("domains", "the fleet has no such domain", hint=f"it has {names}")
    return found


def _matters(section: Section) -> frozenset[Matter]:
    found: set[Matter] = set()
    words = section.texts("events", (), most=64)
    for word in words:
        if not (meant := matters_of(word)):
            hint = f"one of {', '.join(Matter)}, or such as expiry.*"
            raise section.error("events", "an event is not known", hint=hint)
        found |= meant
    if not found:
        raise section.error("events", "the rule is about nothing", hint='such as events = ["expiry.*"]')
    return frozenset(found)


def _receivers(section: Section, known: _Known) -> tuple[Receiver, ...]:
    words = section.texts("to", (), most=_MOST_RECEIVERS)
    found = [_receiver(section, word, known) for word in words]
    return tuple(dict.fromkeys(found))


def _receiver(section: Section, word: str, known: _Known) -> Receiver:
    name, colon, address = word.partition(":")
    channel = known.channels.get(name)
    if channel is None:
        names = ", ".join(known.channels) or "none yet"
        raise section.error("to", "a receiver's channel is not known", hint=f"channels: {names}")
    is_mail = isinstance(channel, MailConfig)
    if is_mail is not bool(colon) or (is_mail and not is_mail_address(address)):
        hint = f'"{name}:ops@example.org"' if is_mail else f'"{name}"'
        raise section.error("to", f"a receiver on the channel {name} is not right", hint=f"write {hint}")
    return Receiver(channel=name, address=address)


def _owners(section: Section, known: _Known) -> str:
    name = section.text("owners", "", longest=32)
    if name and not isinstance(known.channels.get(name), MailConfig):
        raise section.error("owners", "owners must name a mail channel", hint='such as owners = "mail"')
    return name


def _days(section: Section, usual: list[int]) -> list[int]:
    days = section.integers("thresholds_days", tuple(usual), bounds=(0, 3650), most=16)
    if not days or sorted(set(days), reverse=True) != list(days):
        hint = f"such as thresholds_days = {usual}"
        raise section.error("thresholds_days", "thresholds go from the longest to the shortest", hint=hint)
    return list(days)


def _severity(section: Section, name: str) -> Severity | None:
    words = {each.word: each for each in Severity}
    return section.choice(name, None, choices=words)


def _quiet(section: Section) -> QuietHours:
    shifts = []
    for text in section.texts("quiet", (), most=16):
        try:
            shifts.append(Shift.parse(text))
        except BadInputError as error:
            hint = 'such as quiet = ["mon-fri 20:00-07:00 Europe/Berlin"]'
            raise section.error("quiet", "a quiet time, or its time zone, is not known", hint=hint) from error
    unless = _severity(section, "quiet_unless")
    return QuietHours(shifts=tuple(shifts), unless=Severity.CRITICAL if unless is None else unless)


def _escalations(section: Section, known: _Known) -> tuple[Escalation, ...]:
    found = tuple(_escalation(each, known) for each in section.tables("escalation", most=8))
    if list(found) != sorted(found, key=lambda each: each.after):
        raise section.error("escalation", "escalations go from the first to the last", hint="sort them")
    return found


def _escalation(section: Section, known: _Known) -> Escalation:
    found = Escalation(
        after=timedelta(minutes=section.integer("after_minutes", 240, bounds=(1, 40320))),
        to=_receivers(section, known),
    )
    section.close()
    if not found.to:
        raise section.error(
            "to", "the escalation tells nobody", hint='such as to = ["mail:boss@example.org"]'
        )
    return found


def _hours(length: timedelta) -> int:
    return length // timedelta(hours=1)


def _minutes(length: timedelta) -> int:
    return length // timedelta(minutes=1)
