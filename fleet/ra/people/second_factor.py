"""People's second factor: made by each for himself, shown once, and asked for beside the certificate.

The secret is kept sealed. Each code is judged and remembered in one commit, so that of two who send the same
one at once, one is first; wrong ones are counted on record, so that a restart gives no new tries.
"""

import base64
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core.second_factor import SECRET_BYTES, CodeVerdict, FactorState, enrollment_uri, judge_code
from fleet.errors import NotFoundError, RefusedError
from fleet.files import read_secret_bytes, write_file
from fleet.home import Home
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.store import audit, second_factors
from fleet.store.second_factors import FactorRecord

_KEY_BYTES = 32
_NONCE_BYTES = 12
WRONG_CODE = "the code is wrong"
"""What a wrong one is told, in the very words for a name that has no codes at all."""
_SAID = {
    CodeVerdict.WRONG: (WRONG_CODE, "is the clock of the phone right?"),
    CodeVerdict.REPLAYED: ("the code was used before", "wait for the next one"),
    CodeVerdict.LOCKED: (
        "too many codes were wrong, and none counts any more",
        "another operator of the role security: fleet operator totp reset NAME",
    ),
}


class CodeUse(Enum):
    """What a code is shown for."""

    ACT = "act"
    """An act that needs one beside the certificate."""
    CONFIRM = "confirm"
    """The first one of a factor, which counts from then on."""
    RETURN = "return"
    """A way back without a certificate: wrong ones are not counted, or any stranger could lock the factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCode:
    """A code that somebody typed, and where from."""

    operator: str
    code: Secret
    source: str
    """An address, or empty for the home's socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    shown: ShownCode
    secret: Secret
    made_at: datetime
    """Of the factor that the secret is of: another one may have taken its place."""
    at: datetime
    use: CodeUse


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dropping:
    operator: str
    actor: str
    reason: str
    at: datetime


async def enroll(context: Context, name: str, *, actor: str) -> str:
    """Make somebody's secret; return the otpauth URI that tells it, once. It counts when a code was shown.

    Raises:
        RefusedError: he has one that counts.
    """
    known = await context.store.read(second_factors.load_factor, name)
    if known is not None and known.confirmed_at is not None:
        raise RefusedError(
            f"{name} has a second factor", hint="fleet operator totp remove, with a code of it"
        )
    secret = Secret(base64.b32encode(context.randomness(SECRET_BYTES)).decode())
    record = FactorRecord(
        operator=name,
        sealed=_sealed(context, name, secret),
        state=FactorState(),
        made_at=context.clock().replace(microsecond=0),
    )
    await context.store.write(second_factors.put_factor, record)
    await _tell(context, "operator.totp-made", name, actor)
    return enrollment_uri(secret, name=name, fleet=context.fleet)


async def require_code(context: Context, shown: ShownCode, *, use: CodeUse = CodeUse.ACT) -> None:
    """Let whoever has shown a code pass, once for each code.

    Raises:
        NotFoundError: he has no second factor that counts.
        RefusedError: the code is wrong, was used before, or too many were wrong or came too fast.
    """
    now = context.clock()
    for limiter, key in (
        (context.by_device, f"totp {use.value} {shown.operator}"),
        (context.by_address, f"totp {shown.source}"),
    ):
        if not limiter.allow(key, now=now):
            raise RefusedError("too many codes in a minute", code=ProblemCode.RATE_LIMITED)
    record = await context.store.read(second_factors.load_factor, shown.operator)
    if record is None or (record.confirmed_at is None and use is not CodeUse.CONFIRM):
        raise NotFoundError(
            f"{shown.operator} has no second factor that counts", hint="fleet operator totp enroll"
        )
    secret = _opened(context, record)
    trial = _Trial(shown=shown, secret=secret, made_at=record.made_at, at=now, use=use)
    verdict = await context.store.write(_try, trial)
    if use is CodeUse.RETURN and verdict in {CodeVerdict.WRONG, CodeVerdict.LOCKED}:
        raise RefusedError(WRONG_CODE)
    if verdict is not CodeVerdict.RIGHT:
        message, hint = _SAID[verdict]
        raise RefusedError(message, hint=hint)


async def has_factor(desk: Desk, name: str) -> bool:
    """Tell whether somebody has a second factor that counts."""
    known = await desk.store.read(second_factors.load_factor, name)
    return known is not None and known.confirmed_at is not None


async def list_factors(desk: Desk) -> tuple[FactorRecord, ...]:
    """Return everybody's, by name."""
    return await desk.store.read(second_factors.list_factors, None)


async def drop(desk: Desk, name: str, *, actor: str, reason: str = "") -> None:
    """Forget somebody's second factor; who may ask for that, the caller knows. Raises `NotFoundError`."""
    await desk.store.write(_drop, _Dropping(operator=name, actor=actor, reason=reason, at=desk.clock()))


async def _try(tx: Transaction, trial: _Trial) -> CodeVerdict:
    """Judge a code by what is remembered at this very commit."""
    name = trial.shown.operator
    record = await second_factors.load_factor(tx, name)
    if record is None or record.made_at != trial.made_at:
        return CodeVerdict.WRONG
    code = trial.shown.code.reveal()
    verdict, state = judge_code(trial.secret, code, at=trial.at, state=record.state)
    is_right = verdict is CodeVerdict.RIGHT
    if state != record.state and (is_right or trial.use is not CodeUse.RETURN):
        await second_factors.save_state(tx, name, state)
    if not is_right:
        await audit.append(tx, _refusal(trial, verdict))
    elif trial.use is CodeUse.CONFIRM and record.confirmed_at is None:
        await second_factors.confirm_factor(tx, name, at=trial.at)
        entry = _entry("operator.totp-confirmed", name, f"operator:{name}", trial.at)
        await audit.append(tx, entry)
    return verdict


def _refusal(trial: _Trial, verdict: CodeVerdict) -> AuditEntry:
    shown = trial.shown
    details = (("name", shown.operator), ("why", verdict.value), ("address", shown.source))
    return AuditEntry(
        at=trial.at,
        action="operator.totp-refused",
        actor="unknown" if trial.use is CodeUse.RETURN else f"operator:{shown.operator}",
        details=tuple(each for each in details if each[1]),
    )


async def _drop(tx: Transaction, dropping: _Dropping) -> None:
    if await second_factors.load_factor(tx, dropping.operator) is None:
        raise NotFoundError(f"{dropping.operator} has no second factor", hint="fleet operator totp list")
    await second_factors.drop_factor(tx, dropping.operator)
    entry = _entry("operator.totp-removed", dropping.operator, dropping.actor, dropping.at)
    reason = (("reason", dropping.reason),) if dropping.reason else ()
    await audit.append(tx, replace(entry, details=(*entry.details, *reason)))


async def _tell(context: Context, action: str, name: str, actor: str) -> None:
    await context.store.write(audit.append, _entry(action, name, actor, context.clock()))


def _entry(action: str, name: str, actor: str, at: datetime) -> AuditEntry:
    return AuditEntry(at=at, action=action, actor=actor, details=(("name", name),))


def _sealed(context: Context, name: str, secret: Secret) -> bytes:
    nonce = context.randomness(_NONCE_BYTES)
    return nonce + _cipher(context).encrypt(nonce, secret.reveal().encode(), _place(name))


def _opened(context: Context, record: FactorRecord) -> Secret:
    """Return somebody's secret; raises `RefusedError` where the file with the key was lost since."""
    nonce, sealed = record.sealed[:_NONCE_BYTES], record.sealed[_NONCE_BYTES:]
    try:
        return Secret(_cipher(context).decrypt(nonce, sealed, _place(record.operator)).decode())
    except (InvalidTag, ValueError) as error:
        raise RefusedError(
            f"the second factor of {record.operator} cannot be opened: its key was lost",
            hint="another operator of the role security: fleet operator totp reset NAME",
        ) from error


def _cipher(context: Context) -> AESGCM:
    return AESGCM(_load_key(context.home, context))


def _load_key(home: Home, desk: Desk) -> bytes:
    """Return the key that seals second factors; it is made when it is missing. Raises `FleetError`."""
    try:
        found = read_secret_bytes(home.factors_key)
    except NotFoundError:
        found = b""
    if len(found) != _KEY_BYTES:
        found = desk.randomness(_KEY_BYTES)
        write_file(home.factors_key, found)
    return found


def _place(name: str) -> bytes:
    """Bind a secret to its row, so that none can be moved to another's."""
    return f"fleet-second-factor-v1\n{name}".encode()
