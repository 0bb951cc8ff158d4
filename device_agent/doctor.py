"""Looks at a device and names what is wrong, where, and what to do. It changes nothing."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from device_agent.clock import looked
from device_agent.config import Settings
from device_agent.core.certificates import load, public_key_der, read_bundle
from device_agent.core.clock import Moment, TimeSource
from device_agent.core.est import EstServer
from device_agent.core.record import Anchor, Credential
from device_agent.core.stored import StoredRecord
from device_agent.errors import AgentError
from device_agent.files import is_private
from device_agent.hooks import waiting_hooks
from device_agent.keys.software import FileKeyStore
from device_agent.ports import KeyStore
from device_agent.status import needs_of
from device_agent.store import CURRENT, load_record
from device_agent.tls import client_context
from device_agent.wire.fields import time_text
from device_agent.wire.replies import BrokerAddress

_KEY_HINT = "put the key or its token back; where it is lost, an operator's code and device-agent recover"
_WRITE_HINT = "its file system must be writable, and this user its owner"
_SPACE_HINT = "free some space on the disk"
_PATIENCE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    hint: str | None = None


async def examine(
    settings: Settings, keys: KeyStore, *, told: Mapping[str, object] | None
) -> AsyncIterator[Finding]:
    """Give the findings, in the order in which things depend on each other.

    `told` is the status that a running agent has told, None where none runs.
    """
    if not settings.state.is_dir():
        yield _bad("state", f"there is no folder {settings.state}", "device-agent enroll")
        return
    try:
        loaded = load_record(settings.state)
    except AgentError as error:
        yield _bad("record", str(error), error.hint)
        return
    yield _folder(settings)
    if loaded is None or loaded.record.life.active is None:
        yield _bad("record", "the device has no certificate yet", "device-agent enroll")
        return
    active = loaded.record.life.active
    yield _record(damaged=loaded.damaged)
    yield _key(keys, active)
    yield _tls(keys, active)
    moment = looked(settings.state, loaded.record)
    yield _clock(moment)
    yield _dates(active, moment)
    yield _ladder(loaded.record)
    yield _current(settings, active)
    if (waiting := waiting_hooks(settings.state, settings.hook_folder)) is not None:
        yield _hooks(waiting)
    yield _agent(told)
    if active.has_broker:
        yield await _server("broker", active.broker, servers=loaded.record.servers, moment=moment)
    if loaded.record.est is not None:
        yield await _server("est", loaded.record.est, servers=loaded.record.est_servers, moment=moment)


def _good(name: str, text: str) -> Finding:
    return Finding(name=name, ok=True, text=text)


def _bad(name: str, text: str, hint: str | None) -> Finding:
    return Finding(name=name, ok=False, text=text, hint=hint)


def _folder(settings: Settings) -> Finding:
    if not is_private(settings.state):
        return _bad("state", f"others may enter {settings.state}", f"chmod 700 {settings.state}")
    if not os.access(settings.state, os.W_OK):
        return _bad("state", f"{settings.state} cannot be written, so nothing is renewed", _WRITE_HINT)
    disk = os.statvfs(settings.state)
    if disk.f_blocks and not disk.f_bavail:
        return _bad("state", f"the disk of {settings.state} is full, so nothing is renewed", _SPACE_HINT)
    return _good("state", f"{settings.state} is its owner's alone")


def _record(*, damaged: bool) -> Finding:
    if not damaged:
        return _good("record", "the record can be read")
    return _bad(
        "record",
        "the record is damaged, the one before it is used",
        "look at the disk; the next start of the agent writes the record anew",
    )


def _key(keys: KeyStore, active: Credential) -> Finding:
    try:
        held = keys.open(active.key).public_key_der
    except AgentError as error:
        return _bad("key", str(error), _key_hint(error))
    if held != public_key_der(load(read_bundle(active.certificate, most=1)[0])):
        return _bad("key", f"the key {active.key} is not the certificate's", _KEY_HINT)
    return _good("key", f"the key {active.key} fits the certificate")


def _key_hint(error: AgentError) -> str:
    """Return what to do about a key; who reads it has asked the doctor already."""
    return _KEY_HINT if error.hint in (None, "device-agent doctor") else error.hint


def _tls(keys: KeyStore, active: Credential) -> Finding:
    """Say which way TLS takes to the key."""
    if isinstance(keys, FileKeyStore):
        return _good("tls", "TLS signs with the key in its file")
    from device_agent.keys.token_signer import TokenSigner  # noqa: PLC0415 - keys in files do without it

    try:
        signer = keys.open(active.key)
        context, chain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), active.certificate + active.chain
        if isinstance(signer, TokenSigner):
            way = signer.arm_by(context, chain_pem=chain).way
            return _good("tls", f"TLS signs in the token, by {way} in {ssl.OPENSSL_VERSION}")
        signer.arm(context, chain_pem=chain)
    except AgentError as error:
        return _bad("tls", str(error), _key_hint(error))
    return _good("tls", f"TLS signs in the TPM, by the agent's own provider in {ssl.OPENSSL_VERSION}")


def _clock(moment: Moment) -> Finding:
    if moment.source is TimeSource.SYSTEM:
        return _good("clock", "the system's clock is believed")
    believed = f"by {moment.source.words} it is {moment.words}"
    hint = "set the clock; device-agent run goes by the server's signed time"
    return _bad("clock", f"the system's clock is not believed, {believed}", hint)


def _dates(active: Credential, moment: Moment) -> Finding:
    until = f"{active.not_after:%Y-%m-%d %H:%M}Z"
    if moment.now >= active.not_after:
        return _bad("time", f"the certificate ended {until}", "device-agent run asks for the next one")
    return _good("time", f"the certificate is valid until {until}")


def _ladder(record: StoredRecord) -> Finding:
    """Say on which rung of the ladder of recovery the last attempt has left the device."""
    standing = record.standing
    if standing is None:
        return _good("recovery", "none is needed")
    why = f"{standing.why}, on the rung {standing.rung} since {time_text(standing.since)}"
    return _bad("recovery", f"no certificate of this device works: {why}", needs_of(record))


def _current(settings: Settings, active: Credential) -> Finding:
    link = settings.state / CURRENT
    shown = link / "cert.pem"
    if shown.is_file() and shown.read_text() == active.certificate:
        return _good("current", f"{link} holds the certificate in use")
    hint = "the next start of the agent puts it right"
    return _bad("current", f"{link} does not hold the certificate in use", hint)


def _hooks(waiting: tuple[str, ...]) -> Finding:
    """Say which other programs may still use what was replaced."""
    if not waiting:
        return _good("hooks", "each has succeeded since the identity changed last")
    text = f"not succeeded since the identity changed last: {' '.join(waiting)}"
    return _bad(
        "hooks", text, "the agent's log says why; a running agent tries again, at the latest in an hour"
    )


def _agent(told: Mapping[str, object] | None) -> Finding:
    if told is None:
        return _bad("agent", "no agent runs, so nothing is renewed", "device-agent run")
    match told:
        case {"problem": str(word), "problem_text": str(text), "problem_since": str(since), **rest}:
            hint, step = rest.get("problem_hint"), rest.get("problem_step")
            at_step = f" at the step {step}" if isinstance(step, str) else ""
            why = f"an agent runs, and since {since} there is the problem {word}{at_step}: {text}"
            return _bad("agent", why, hint if isinstance(hint, str) else None)
        case {"problem": str(word)}:
            return _bad("agent", f"an agent runs, and there is the problem {word}", "device-agent status")
        case _:
            return _good("agent", "an agent runs")


async def _server(
    name: str, place: BrokerAddress | EstServer, *, servers: tuple[Anchor, ...], moment: Moment
) -> Finding:
    """See whether a server answers and is the one that is trusted; the device's session is left alone."""
    address = f"{place.host}:{place.port}"
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            context = client_context(servers, moment=moment)
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        why = f"{address} shows a certificate that is not trusted: {error.verify_message}"
        return _bad(name, why, "is it the right server, and is the clock right")
    except TimeoutError:
        return _bad(name, f"{address} does not answer in time", "look at the network")
    except (OSError, AgentError) as error:
        return _bad(name, f"{address} cannot be reached: {error}", "look at the network")
    writer.transport.abort()
    return _good(name, f"{address} answers and is trusted")
