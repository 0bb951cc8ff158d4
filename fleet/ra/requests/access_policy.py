"""The access policy: read, checked against the fleet, put in force for live sessions too, and taken back.

Nothing is put in force that has a fault: the first one is told with its line, and what was in force stays.
"""

import base64
import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from device_agent.wire.identity import Identity
from fleet.access_file import DEFAULT_TEXT, LARGEST, parse
from fleet.core.policy import Facts, Policy
from fleet.core.policy_check import Finding, findings
from fleet.core.proposal import ActKind
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError
from fleet.files import PUBLIC_MODE, write_file
from fleet.model import AuditEntry, Role
from fleet.ports import Transaction
from fleet.ra.access_rules import SOURCE
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MassAct, require_second
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.store import access_classes, access_policies, audit
from fleet.store.access_policies import PolicyRecord
from fleet.store.proposals import ProposalRecord

_HISTORY = 1000
_APPLIED, _ROLLED_BACK = "access.applied", "access.rolled-back"
_ACTION, _TEXT = "action", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInUse:
    """A rule, and how many admitted certificates of devices its conditions hold for."""

    name: str
    effect: str
    line: int
    certificates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A policy that can be put in force."""

    policy: Policy
    text: str
    rules: tuple[RuleInUse, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedAccess:
    """What is in force now."""

    number: int
    changed: bool
    digest: str
    everywhere: bool
    """Every broker follows it already; one that could not be reached follows it as soon as it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applying:
    checked: Checked
    action: str
    actor: str
    at: datetime


async def check_access(context: Context, text: str) -> Checked:
    """Read a policy, or the home's `access.toml` where the text is empty, and judge it on this fleet.

    Raises:
        BadInputError: with the line of the first fault, why, and what to do.
    """
    written = text if text.strip() else text_of_home(context)
    policy = parse(written, source=SOURCE)
    known = await context.store.read(access_classes.tell_apart, policy.asks)
    profiles = {
        domain.name: frozenset(profile.name for profile in domain.profiles)
        for domain in context.config.domains
    }
    if found := findings(policy, profiles=profiles, known=[facts for facts, _ in known]):
        raise _refusal(found)
    return Checked(policy=policy, text=written, rules=_in_use(policy, known))


async def rules_in_use(context: Context, text: str) -> Checked:
    """Return the policy that is in force, with what each of its rules is about now: its classes tell."""
    policy = parse(text, source=SOURCE)
    known = await context.store.read(access_classes.count_classes, None)
    return Checked(policy=policy, text=text, rules=_in_use(policy, known))


def file_differs(context: Context, text: str) -> bool:
    """Say whether the home's `access.toml` says something else than what is in force, and waits."""
    waiting = text_of_home(context) if context.home.access.exists() else ""
    return bool(waiting.strip()) and waiting != text


def _in_use(policy: Policy, known: Sequence[tuple[Facts, int]]) -> tuple[RuleInUse, ...]:
    return tuple(
        RuleInUse(
            name=rule.name,
            effect=rule.effect,
            line=rule.line,
            certificates=sum(count for facts, count in known if rule.holds(facts)),
        )
        for rule in policy.rules
    )


async def apply_access(context: Context, text: str, *, actor: str, action: str = _APPLIED) -> AppliedAccess:
    """Put a policy in force, here and at every broker; the home's file becomes what is in force.

    Raises:
        BadInputError: as `check_access`; what was in force stays so.
        ProposedError: it waits for a second operator.
    """
    checked = await _checked_or_told(context, text, actor=actor)
    encoded = base64.b64encode(checked.text.encode()).decode()
    act = MassAct(
        kind=ActKind.POLICY,
        identities=(),
        selection=f"access policy {checked.digest[:12]}",
        role=Role.SECURITY,
        parameters=((_ACTION, action), (_TEXT, encoded)),
    )
    await require_second(context, act, actor=actor)
    return await _put_in_force(context, checked.text, actor=actor, action=action)


async def _put_in_force(context: Context, text: str, *, actor: str, action: str) -> AppliedAccess:
    async with context.in_force.changing:
        checked = await _checked_or_told(context, text, actor=actor)
        applying = _Applying(checked=checked, action=action, actor=actor, at=context.clock())
        number, sequence = await context.store.write(_apply, applying)
        write_file(context.home.access, checked.text.encode(), mode=PUBLIC_MODE)
    everywhere = await _reach(context, sequence)
    return AppliedAccess(
        number=number, changed=sequence is not None, digest=checked.digest, everywhere=everywhere
    )


async def _checked_or_told(context: Context, text: str, *, actor: str) -> Checked:
    """Return a policy that may be put in force; a refusal is on record."""
    try:
        return await check_access(context, text)
    except BadInputError as error:
        await context.store.write(audit.append, _refused(context, str(error), actor))
        raise


async def rollback_access(context: Context, number: int, *, actor: str) -> AppliedAccess:
    """Put an earlier policy in force again, as the newest one.

    Raises:
        NotFoundError: there is none of that number. RefusedError: it is in force.
        BadInputError: it does not fit the fleet any more.
    """
    record = await context.store.read(access_policies.load_policy, number)
    newest = await context.store.read(access_policies.newest_policy, None)
    if record is None and number != 0:
        raise NotFoundError(f"there is no access policy {number}", hint="fleet policy history")
    text = DEFAULT_TEXT if record is None else record.text
    if newest is None or newest.text == text:
        raise RefusedError(f"the access policy {number} is what is in force", hint="fleet policy history")
    return await apply_access(context, text, actor=actor, action=_ROLLED_BACK)


async def history(desk: Desk) -> tuple[PolicyRecord, ...]:
    """Return every policy that was in force, the last one first."""
    return await desk.store.read(access_policies.list_policies, _HISTORY)


async def access_in_force(desk: Desk) -> PolicyRecord | None:
    """Return the policy in force, or None where it is the default one, which nobody wrote."""
    return await desk.store.read(access_policies.newest_policy, None)


def text_of_home(context: Context) -> str:
    """Return what stands in the home's `access.toml`.

    Raises:
        BadInputError: it cannot be read.
    """
    return _read(context.home.access)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1).decode()
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be read: {(error.strerror or '').lower()}",
            hint=f"begin with the one in force: fleet policy show > {path}",
        ) from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text", hint="save it as UTF-8 (TOML 1.0)") from error


async def _apply(tx: Transaction, applying: _Applying) -> tuple[int, int | None]:
    """Write the policy; return its number, and the allowlist's for brokers to reach, None if nothing changed.

    0 is for a change of rules alone: nobody's class is another one.
    """
    checked = applying.checked
    newest = await access_policies.newest_policy(tx, None)
    if checked.text == (DEFAULT_TEXT if newest is None else newest.text):
        return (0 if newest is None else newest.number), None
    record = PolicyRecord(
        number=1 if newest is None else newest.number + 1,
        text=checked.text,
        digest=checked.digest,
        asks=checked.policy.asks,
        applied_at=applying.at,
        actor=applying.actor,
    )
    await access_policies.insert_policy(tx, record)
    moved = await access_classes.refresh_all(tx)
    details = (("number", str(record.number)), ("digest", record.digest), ("text", record.text))
    entry = AuditEntry(at=applying.at, action=applying.action, actor=applying.actor, details=details)
    await audit.append(tx, entry)
    return record.number, moved or 0


async def _reach(context: Context, sequence: int | None) -> bool:
    if sequence is None:
        return True
    try:
        await context.broker.govern()
        if sequence:
            await context.broker.reach(sequence)
    except FleetError:
        return False  # the broker gets rules and list as a whole when it is back
    return True


def _refusal(found: tuple[Finding, ...]) -> BadInputError:
    first, more = found[0], len(found) - 1
    also = f" (and {more} more)" if more else ""
    return BadInputError(f"{SOURCE}:{first.line}: {first.message}{also}", hint=first.hint)


def _refused(context: Context, reason: str, actor: str) -> AuditEntry:
    details = (("reason", reason),)
    return AuditEntry(at=context.clock(), action="access.refused", actor=actor, details=details)


async def _find(_context: Context, _proposal: ProposalRecord) -> tuple[Identity, ...]:
    return ()


async def _perform(context: Context, proposal: ProposalRecord, _devices: tuple[Identity, ...]) -> str:
    """Put in force what somebody else agreed to, if it still fits the fleet."""
    text = base64.b64decode(proposal.parameter(_TEXT)).decode()
    action = proposal.parameter(_ACTION)
    applied = await _put_in_force(context, text, actor=proposal.proposed_by, action=action)
    return f"access policy {applied.number} is in force"


async def _describe(context: Context, proposal: ProposalRecord) -> str:
    """Return what the policy would change of the one in force, line by line, and its SHA-256."""
    wanted = base64.b64decode(proposal.parameter(_TEXT)).decode()
    newest = await access_in_force(context)
    before = DEFAULT_TEXT if newest is None else newest.text
    lines = difflib.unified_diff(
        before.splitlines(), wanted.splitlines(), fromfile="in force", tofile="proposed", lineterm=""
    )
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    return "\n".join((f"SHA-256 of the proposed policy: {digest}", *lines))


PERFORMER = Performer(find=_find, perform=_perform, describe=_describe)
