"""What people can be told of, each matter with its CloudEvents type, its weight, and how it ends. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

EVENT_PREFIX = "fleet.v1."
"""Before a matter's name in the type of its CloudEvent."""


class Severity(IntEnum):
    """How much it matters; told and stored by its `word`."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> "Severity":
        """Return the severity of a word; raises `KeyError`."""
        return cls[word.upper()]


class Matter(StrEnum):
    """What a notification can be about; stored by name, and never renamed."""

    LEAF_ENDS = "expiry.leaf"
    CLAIM_ENDS = "expiry.claim"
    CA_ENDS = "expiry.ca"
    CRL_ENDS = "expiry.crl"
    SERVER_ENDS = "expiry.server"
    SERVICE_ENDS = "expiry.service"
    STATION_ENDS = "expiry.station"
    OPERATOR_ENDS = "expiry.operator"
    SIGNER_ENDS = "expiry.signer"
    RENEWAL_MISSED = "renewal.missed"
    RENEWAL_REFUSED = "renewal.refused"
    DEVICE_ALARM = "device.alarm"
    QUOTA = "quota.reached"
    BROKER_REFUSALS = "broker.refusals"
    ROLLOUT_HALTED = "rollout.halted"
    PROPOSAL_MADE = "proposal.made"
    READMISSION = "operator.readmission"
    DOCTOR = "doctor.finding"
    BACKUP_OLD = "backup.old"
    AUDIT_DAMAGED = "audit.damaged"


class Course(StrEnum):
    """How a matter goes on once it arose."""

    ENDING = "ending"
    """It comes nearer, through a rule's thresholds, until it is mended; then an all-clear is told."""
    LASTING = "lasting"
    """It stands until it is mended; then an all-clear is told."""
    PASSING = "passing"
    """It happened. When it has not happened again for a day it may be told anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a matter: its words, and how much it matters before a rule says otherwise."""

    text: str
    course: Course
    severity: Severity = Severity.WARNING
    fix: str = ""
    """What to do, where it is the same for all of it."""


def _ends(what: str, fix: str) -> About:
    return About(text=f"{what} end", course=Course.ENDING, fix=fix)


MATTERS: Mapping[Matter, About] = MappingProxyType(
    {
        Matter.LEAF_ENDS: _ends("certificates of devices", "fleet device explain DEVICE"),
        Matter.CLAIM_ENDS: _ends("claim certificates", "fleet claim create --certificate"),
        Matter.CA_ENDS: _ends("certificates of CAs", "fleet ca list"),
        Matter.CRL_ENDS: _ends("revocation lists", "fleet ca crl NAME, or see the log of fleet serve"),
        Matter.SERVER_ENDS: _ends("certificates of the server", "fleet cert renew server"),
        Matter.SERVICE_ENDS: _ends(
            "certificates of services", "fleet cert renew service, or fleet service renew NAME"
        ),
        Matter.STATION_ENDS: _ends("certificates of stations", "fleet station list"),
        Matter.OPERATOR_ENDS: _ends("certificates of operators", "fleet operator renew NAME"),
        Matter.SIGNER_ENDS: _ends("certificates of status signers", "fleet cert renew signer"),
        Matter.RENEWAL_MISSED: About(
            text="devices let their certificates end",
            course=Course.LASTING,
            fix="fleet device explain DEVICE",
        ),
        Matter.RENEWAL_REFUSED: About(
            text="renewals are refused", course=Course.PASSING, fix="fleet device explain DEVICE"
        ),
        Matter.DEVICE_ALARM: About(
            text="devices raised a clone alarm",
            course=Course.LASTING,
            severity=Severity.CRITICAL,
            fix="fleet device explain DEVICE",
        ),
        Matter.QUOTA: About(
            text="quotas are used up, or nearly",
            course=Course.LASTING,
            fix="fleet station show NAME, fleet claim list or fleet ca list",
        ),
        Matter.BROKER_REFUSALS: About(
            text="brokers refuse many connections", course=Course.LASTING, fix="fleet monitor"
        ),
        Matter.ROLLOUT_HALTED: About(
            text="rollouts halted",
            course=Course.PASSING,
            severity=Severity.CRITICAL,
            fix="fleet audit search --action rollout.*",
        ),
        Matter.PROPOSAL_MADE: About(
            text="an act waits for a second operator",
            course=Course.PASSING,
            fix="fleet proposal list",
        ),
        Matter.READMISSION: About(
            text="an operator who lost his certificate asks to be let in again",
            course=Course.PASSING,
            severity=Severity.CRITICAL,
            fix="fleet operator pleas",
        ),
        Matter.DOCTOR: About(text="the doctor found something", course=Course.LASTING, fix="fleet doctor"),
        Matter.BACKUP_OLD: About(
            text="the last backup is too old", course=Course.LASTING, fix="fleet ca backup"
        ),
        Matter.AUDIT_DAMAGED: About(
            text="the audit trail was changed",
            course=Course.LASTING,
            severity=Severity.CRITICAL,
            fix="fleet audit verify",
        ),
    }
)
"""Every matter there is."""


def matters_of(pattern: str) -> frozenset[Matter]:
    """Return the matters that a word of a rule means: one by its name, or many, as `expiry.*` and `*` do."""
    if pattern.endswith("*"):
        return frozenset(each for each in Matter if each.value.startswith(pattern[:-1]))
    return frozenset(each for each in Matter if each.value == pattern)


def event_type(matter: Matter | None) -> str:
    """Return the CloudEvents type of a matter; None is a test."""
    return f"{EVENT_PREFIX}{'test' if matter is None else matter.value}"


def gravest(severities: Iterable[Severity]) -> Severity:
    """Return the highest of some severities."""
    return max(severities, default=Severity.INFO)
