"""Takes trust bundles: judged first, tried where they could lock the device out, kept in one write.

What is held stays in force until the new bundle stands on the disk, so neither a power cut nor a bundle
that leads nowhere leaves the device without a way to its server.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from device_agent.asking import Asking
from device_agent.core.acceptance import MAX_CHAIN, reaches
from device_agent.core.certificates import read_bundle
from device_agent.core.record import Credential
from device_agent.core.stored import StoredRecord, anchors_of
from device_agent.core.trust import Doubt, HeldTrust, Holding, NewTrust, Source, judge
from device_agent.errors import AgentError, NotEnrolledError, UntrustedBundleError
from device_agent.life import Life
from device_agent.signals import Brought, Signals
from device_agent.wire.trust import FLEET_REALM, TrustBundle

_log = logging.getLogger(__name__)

_AGAIN = timedelta(hours=1)
"""A bundle that stays retained comes with each connection; one that failed its trial waits so long."""


class Trusting:
    """The anchors of one device. Used by the task that owns the connection."""

    def __init__(
        self, life: Life, asking: Asking, *, signals: Signals, clock: Callable[[], datetime]
    ) -> None:
        self._life, self._asking, self._signals, self._clock = life, asking, signals, clock
        self._failed: dict[str, datetime] = {}
        """The bundle that failed its trial last, by digest, and when."""

    async def take_brought(self) -> None:
        """Judge what was brought, and tell what became of it; a bundle that is refused stops nothing else."""
        if not self._signals.brought:
            return
        was_connected = self._asking.serial is not None
        while self._signals.brought:
            await self._take(self._signals.brought.popleft())
        await self._asking.report()
        if was_connected and self._asking.serial is None:
            self._signals.ring()  # a trial failed: connect again, by what is held

    async def _take(self, brought: Brought) -> None:
        waiting = brought.done if brought.done is not None and not brought.done.done() else None
        try:
            await self.take(brought.bundle, source=brought.source)
        except AgentError as error:
            _log.warning("%s", error)
            self._signals.distrust = _word_of(error)
            if waiting is not None:
                waiting.set_exception(error)
        else:
            self._signals.distrust = None
            if waiting is not None:
                waiting.set_result(None)

    async def take(self, bundle: TrustBundle, *, source: Source) -> None:
        """Hold the anchors of a bundle from now on; the one that is held changes nothing.

        Raises:
            UntrustedBundleError: it must not be believed, or the device could not connect by it.
            NotEnrolledError: it needs a trial, and there is nothing to connect with. StateError: disk.
        """
        record, now = self._life.record, self._clock()
        new = judge(bundle, _holding(record, bundle.realm), now=now)
        if new is None:
            return
        held = HeldTrust(
            realm=new.realm,
            since=now.replace(microsecond=0),
            source=source,
            version=new.version,
            digest=new.digest,
        )
        after = record.believing(anchors_of(new.anchors), held)
        if _could_lock_out(after, new, now=now):
            await self._try(after, new)
        self._life.keep(after)
        _log.info("took the trust bundle %d of %s", new.version, new.realm)

    async def _try(self, after: StoredRecord, new: NewTrust) -> None:
        """Connect by what would be held, and by nothing else."""
        failed_at = self._failed.get(new.digest)
        if failed_at is not None and failed_at <= self._clock() < failed_at + _AGAIN:
            raise _locked_out(new, "a trial failed a short while ago")
        if after.life.active is None:
            raise NotEnrolledError("a bundle that gives up an anchor is tried with a certificate")
        await self._asking.disconnect()
        try:
            await self._asking.try_servers(after.life.active, after.servers)
        except AgentError as error:
            self._failed = {new.digest: self._clock()}
            raise _locked_out(new, str(error)) from error


def _holding(record: StoredRecord, realm: str) -> Holding:
    """Return what a bundle of a realm is judged by; no anchors where the device has no part in it."""
    if record.fleet is None:
        raise NotEnrolledError("this device has no certificate yet", hint="device-agent enroll")
    held = record.held(realm)
    return Holding(
        fleet=record.fleet,
        realm=realm if realm in (FLEET_REALM, record.domain) else "",
        anchors=tuple(read_bundle(anchor.pem, most=1)[0] for anchor in record.anchors_in(realm)),
        version=0 if held is None else held.version,
        digest="" if held is None else held.digest,
    )


def _could_lock_out(after: StoredRecord, new: NewTrust, *, now: datetime) -> bool:
    """Tell whether only a connection can show that the device comes back.

    Which of the servers' anchors the broker's chain needs, a handshake alone tells; of the domain's own,
    the certificates in the slots do.
    """
    if not new.dropped:
        return False
    if new.realm == FLEET_REALM:
        return True
    pending = after.life.pending
    slots = (after.life.active, None if pending is None else pending.credential)
    return not all(_reaches(slot, new.anchors, now=now) for slot in slots if slot is not None)


def _reaches(credential: Credential, anchors: tuple[bytes, ...], *, now: datetime) -> bool:
    chain = read_bundle(credential.certificate + credential.chain, most=MAX_CHAIN)
    # Whether it has expired is another question.
    within = min(max(now, credential.not_before), credential.not_after - timedelta(seconds=1))
    return reaches(chain, anchors, now=within)


def _word_of(error: AgentError) -> str:
    return error.word if isinstance(error, UntrustedBundleError) else "trust-not-kept"


def _locked_out(new: NewTrust, why: str) -> UntrustedBundleError:
    return UntrustedBundleError(
        f"the trust bundle {new.version} of {new.realm} is not taken, {Doubt.LOCKS_OUT}: {why}",
        word=Doubt.LOCKS_OUT,
        hint="the anchors that were held are kept; device-agent trust shows them",
    )
