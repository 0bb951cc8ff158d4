"""Gathers what is known of a request, and has the profiles of its domain rule on it.

Runs inside the unit of work that records the intent: what the records say of the device counts as of then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from fleet.config import Config
from fleet.core import events
from fleet.core.csr import Csr
from fleet.core.ruling import Channel, Facts, Outcome, Rules, Ruling, Step, rule
from fleet.model import Assurance, AuditEntry, Certificate, CertificateState, ClientKind, Device
from fleet.ports import Transaction
from fleet.ra.context import Asker, Listener
from fleet.ra.requests.rollout_words import hear_refusal
from fleet.store import audit, claims, requests
from fleet.store.attributes import vouched_labels
from fleet.store.certificates import load_certificate
from fleet.store.codes import GrantKind, grant_kinds
from fleet.store.devices import DeviceRecord, load_record, set_assurance, set_profile

ASSURANCE: Mapping[GrantKind, Assurance] = {
    GrantKind.CODE: Assurance.CODE,
    GrantKind.CLAIM: Assurance.CLAIM,
    GrantKind.APPROVAL: Assurance.APPROVED,
    GrantKind.STATION: Assurance.APPROVED,
    GrantKind.MANIFEST: Assurance.MANUFACTURER,
    GrantKind.IDEVID: Assurance.MANUFACTURER,
    GrantKind.TPM: Assurance.HARDWARE,
    GrantKind.PIV: Assurance.HARDWARE,
}
"""What a grant of each kind proves about who the device is."""

_IN_GRACE = frozenset({CertificateState.EXPIRED_GRACE, CertificateState.EXPIRED_UNUSED})
_OVER_MQTT = frozenset({Listener.BOOTSTRAP, Listener.PROVISIONING, Listener.OPERATIONAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the profiles."""

    rules: Rules
    csr: Csr
    channel: Channel
    label: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A ruling, with the facts that it stands on."""

    facts: Facts
    ruling: Ruling


def rules_of(config: Config) -> Rules:
    """Return what the configuration says."""
    return Rules(
        fleet=config.fleet,
        profiles={domain.name: domain.profiles for domain in config.domains},
        grace=config.policy.grace,
    )


def refusal_of(ruling: Ruling) -> events.Nothing | None:
    """Return what a device is told where the profiles say no."""
    if ruling.code is None:
        return None
    return events.Nothing(code=ruling.code, reason=ruling.reason)


def question_of(config: Config, asker: Asker, csr: Csr, *, at: datetime) -> Question:
    """Return the question that a request poses."""
    channel = Channel.MQTT if asker.listener in _OVER_MQTT else Channel.OTHER
    return Question(rules=rules_of(config), csr=csr, channel=channel, label=asker.profile, at=at)


async def rule_first(tx: Transaction, question: Question, identity: Identity, *, proved: Assurance) -> Ruled:
    """Rule on a request for a first certificate; `proved` is what its proof is worth."""
    record = await load_record(tx, identity)
    known = await grant_kinds(tx, identity, key_hash=question.csr.key_hash)
    facts = await _facts(
        tx,
        question,
        record or DeviceRecord(identity=identity, registered_at=question.at),
        _Lineage(
            step=Step.FIRST,
            assurance=max((proved, *(ASSURANCE[kind] for kind in known))),
            is_approved=GrantKind.APPROVAL in known,
        ),
    )
    return Ruled(facts=facts, ruling=rule(question.rules, facts))


async def rule_next(tx: Transaction, question: Question, device: Device, event: events.Renew) -> Ruled:
    """Rule on a request for the next certificate of a device."""
    identity = device.identity
    record = await load_record(tx, identity) or DeviceRecord(identity=identity, registered_at=question.at)
    parent = next((row for row in device.certificates if row.serial == event.parent), None)
    # A request that comes again is answered again, however late.
    is_new = all(row.key_hash != question.csr.key_hash for row in device.certificates)
    lineage = _Lineage(
        step=Step.NEXT,
        assurance=record.assurance,
        keeps_key=parent is not None and parent.key_hash == question.csr.key_hash,
        # Whoever comes back late comes back with a new key, even where a profile lets a key be kept.
        may_keep_key=device.kind is ClientKind.PLAIN and (parent is None or parent.state not in _IN_GRACE),
        expired_for=await _expired_for(tx, parent if is_new else None, record, question.at),
    )
    facts = await _facts(tx, question, record, lineage)
    return Ruled(facts=facts, ruling=rule(question.rules, facts))


async def note_ruling(tx: Transaction, ruled: Ruled, verdict: events.Verdict | None, at: datetime) -> None:
    """Keep what was asked and ruled; where a lineage begins with it, the device is what it proved to be."""
    facts, ruling = ruled.facts, ruled.ruling
    refused = verdict if isinstance(verdict, events.Nothing) else None
    # What the core refuses, no profile can let in: there is nothing to try again.
    by_profile = refused is None or ruling.outcome is Outcome.REFUSED
    record = requests.RequestRecord(
        at=at,
        outcome=ruling.outcome if refused is None else Outcome.REFUSED,
        domain=facts.identity.domain,
        device_id=facts.identity.device_id,
        code="" if refused is None else refused.code.value,
        reason="" if refused is None else refused.reason,
        facts=facts if by_profile else None,
    )
    await requests.keep_request(tx, record)
    if refused is not None and facts.step is Step.NEXT:
        await hear_refusal(tx, facts.identity, refused.code.value)
    if isinstance(verdict, events.Issue | events.Issued) and facts.step is Step.FIRST:
        await _begin_lineage(tx, facts, at)


async def _begin_lineage(tx: Transaction, facts: Facts, at: datetime) -> None:
    """Note what the device proved, and which profile its label chose."""
    identity = facts.identity
    # What the records say already stays theirs to say.
    chosen = "" if facts.device_profile or facts.batch_profile else facts.label
    await set_assurance(tx, identity, facts.assurance)
    if chosen:
        await set_profile(tx, identity, chosen)
    details = (("assurance", facts.assurance.word), ("profile", chosen))
    entry = AuditEntry(
        at=at,
        action="device.ruled",
        actor="server",
        domain=identity.domain,
        device_id=identity.device_id,
        details=tuple((name, value) for name, value in details if value),
    )
    await audit.append(tx, entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lineage:
    """What the two steps know in different ways."""

    step: Step
    assurance: Assurance
    is_approved: bool = False
    keeps_key: bool = False
    may_keep_key: bool = False
    expired_for: timedelta | None = None


async def _facts(tx: Transaction, question: Question, record: DeviceRecord, lineage: _Lineage) -> Facts:
    identity, csr = record.identity, question.csr
    batch = None if record.batch is None else await claims.load_batch(tx, identity.domain, record.batch)
    return Facts(
        step=lineage.step,
        channel=question.channel,
        identity=identity,
        key_type=csr.key_type,
        rsa_bits=csr.rsa_bits,
        assurance=lineage.assurance,
        label=question.label,
        device_profile=record.profile,
        batch_profile="" if batch is None else batch.profile,
        batch=record.batch or "",
        hardware=record.hardware,
        attributes=await vouched_labels(tx, identity),
        is_approved=lineage.is_approved,
        keeps_key=lineage.keeps_key,
        may_keep_key=lineage.may_keep_key,
        expired_for=lineage.expired_for,
    )


async def _expired_for(
    tx: Transaction, parent: Certificate | None, record: DeviceRecord, at: datetime
) -> timedelta | None:
    """Return how long ago a certificate ended, where that decides whether it may have the next one."""
    if parent is None or parent.state not in _IN_GRACE:
        return None
    row = await load_certificate(tx, parent.serial)
    if row is None or row.signed is None or row.signed.not_after >= at:
        return None
    # A device that was held up could not renew meanwhile.
    return at - max(row.signed.not_after, record.resumed_at or row.signed.not_after)
