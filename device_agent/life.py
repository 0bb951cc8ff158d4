"""The life of one device on disk: each event goes through the table, then one write, then its follow-up.

Nothing here talks to a network. The order is always the same: a key is durable before the record names
it, the record is durable before anything is asked by it, `current/` follows the record, and a key is
destroyed only when neither the record nor the one before it names it.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from device_agent.core import renewal
from device_agent.core.acceptance import Accepted, Expected, Judge, Offer, accept, begin_of, offer_of
from device_agent.core.certificates import bundle, read_bundle
from device_agent.core.clock import Moment
from device_agent.core.csr import csr_der
from device_agent.core.est_acceptance import accept_of_another
from device_agent.core.events import Action, Answer, Event, Facts, KeyLost, KeyMade, Route
from device_agent.core.ladder import Rung, Standing
from device_agent.core.lifecycle import State, state_of, step
from device_agent.core.rate import a_day
from device_agent.core.record import Credential, DeviceRecord, Pending
from device_agent.core.stored import StoredRecord, anchors_of
from device_agent.core.trust import HeldTrust, Source
from device_agent.errors import KeyStoreError, NotEnrolledError, StateError
from device_agent.journal import fields
from device_agent.ports import Clock, KeyStore, Signer
from device_agent.store import RecordStore
from device_agent.wire.identity import parse_name
from device_agent.wire.pace import latest
from device_agent.wire.replies import BrokerAddress, Issued
from device_agent.wire.requests import ProofKind

if TYPE_CHECKING:
    from device_agent.wire.objects import ObjectHashes

_log = logging.getLogger(__name__)

_WISHES_A_DAY = 24
"""Flash wears, and each wish is a write."""


def _nobody(_generation: str, _credential: Credential) -> None:
    """Stand in for somebody who is told."""


class Life:
    """Record, keys and `current/` of one device. Made under the lock of its state folder."""

    def __init__(
        self,
        store: RecordStore,
        keys: KeyStore,
        *,
        clock: Clock,
        new_key_name: Callable[[], str],
        published: Callable[[str, Credential], None] = _nobody,
        domain: str | None = None,
    ) -> None:
        """`published` is told, time and again, what `current/` holds: the folder's name, the credential.

        `domain` is the only one that an identity is taken of; None takes the first that comes.
        """
        self._domain, self._wishes = domain, a_day(_WISHES_A_DAY)
        self._put_off_until: datetime | None = None
        self._store, self._keys, self._published = store, keys, published
        self._clock, self._new_key_name = clock, new_key_name
        self._record = self._load()
        self._know_at_least()
        self._follow_up()

    @property
    def record(self) -> StoredRecord:
        """What is on disk."""
        return self._record

    @property
    def domain(self) -> str | None:
        """The only domain that this identity may be of; None where any may be."""
        return self._domain

    @property
    def active(self) -> Credential:
        """The credential in use; raises `NotEnrolledError`."""
        if self._record.life.active is None:
            raise NotEnrolledError("this device has no certificate yet", hint="device-agent enroll")
        return self._record.life.active

    @property
    def pending(self) -> Pending:
        """The pending slot; raises `NotEnrolledError`."""
        if self._record.life.pending is None:
            raise NotEnrolledError("no certificate is on its way", hint="device-agent enroll")
        return self._record.life.pending

    @property
    def device_id(self) -> str:
        """The id that the next certificate is for: the active one's, or the one being enrolled."""
        life = self._record.life
        if life.active is not None and life.proof is None:
            return parse_name(life.active.broker.name).device_id
        return self._record.device_id

    def now(self) -> datetime:
        """Return what time it is to this device."""
        return self._clock()

    def moment(self) -> Moment:
        """Return what time it is to this device, and how that is known."""
        return self._clock.moment()

    def facts(self, *, refused: frozenset[Route]) -> Facts:
        """Return what the table needs to know of this moment."""
        return renewal.facts(self._record.life, now=self._clock(), refused=refused)

    def is_put_off(self) -> bool:
        """Tell whether a renewal that was due, and has begun, was given a later moment by the server."""
        until, active = self._put_off_until, self._record.life.active
        is_begun = state_of(self._record.life) is State.RENEWING
        if until is None or active is None or not is_begun:
            return False
        return self._clock() < min(until, latest(active.not_before, active.not_after))

    def signer(self, key: str) -> Signer:
        """Return a key; raises `KeyStoreError`."""
        return self._keys.open(key)

    def take(self, event: Event, *, onto: StoredRecord | None = None) -> tuple[Action, ...]:
        """Take an event; what changes is on disk when this returns the actions.

        `onto` is the record with what the event brings beside the life record.

        Raises:
            StateError: the record cannot be written; nothing has changed.
        """
        base = self._record if onto is None else onto
        found = step(base.life, event)
        after = _settled(base, found.record)
        if after != self._record:
            self._store.save(after)
            self._record = after
            self._follow_up()
        return found.actions

    def make_key(self, facts: Facts) -> tuple[Action, ...]:
        """Make a key and its request, and put them into the pending slot; returns as `take`.

        Raises:
            KeyStoreError: the key cannot be made or kept.
            StateError: the record cannot be written.
        """
        signer = self._keys.create(self._new_key_name())
        request = csr_der(self.device_id, public_key_der=signer.public_key_der, sign=signer.sign)
        _log.info("made the key %s", signer.name, extra=fields(key=signer.name))
        made = KeyMade(key=signer.name, key_hash=_key_hash(signer), facts=facts)
        return self.take(made, onto=replace(self._record, csr=request))

    def install(self, issued: Issued) -> tuple[Action, ...]:
        """Judge an answer, and put it into the pending slot; returns as `take`.

        Raises:
            UnacceptableAnswerError: a rule is broken; nothing has changed.
        """
        offer = offer_of(issued)
        # Another maker's EST server names no broker; whoever knows its fleet takes nothing of it.
        is_elsewhere = self._record.est is not None and self._record.fleet is None and not issued.broker.host
        accepted = self.judge(offer, by=accept_of_another if is_elsewhere else accept)
        onto = replace(self._record, recovery=issued.recovery or self._record.recovery)
        return self.put(
            accepted,
            onto=onto,
            renew_after=issued.renew_after,
            broker=issued.broker,
            attempt_floor=issued.attempt_floor,
        )

    def judge(self, offer: Offer, *, by: Judge = accept) -> Accepted:
        """Return what of an offer may be activated; raises `UnacceptableAnswerError`."""
        record = self._record
        expected = Expected(
            public_key_der=self.signer(self.pending.key).public_key_der,
            device_id=self.device_id,
            domain=self._domain or record.domain,
            fleet=record.fleet,
            anchors=_ders(record.life),
        )
        return by(offer, expected, now=self._clock.moment().judging(begin_of(offer)))

    def put(
        self,
        accepted: Accepted,
        *,
        onto: StoredRecord,
        renew_after: datetime,
        broker: BrokerAddress,
        attempt_floor: int = 0,
        hashes: "ObjectHashes | None" = None,
    ) -> tuple[Action, ...]:
        """Put what was accepted into the pending slot, with its anchors, in one write; returns as `take`."""
        leaf = accepted.leaf
        credential = Credential(
            key=self.pending.key,
            key_hash=leaf.key_hash,
            serial=leaf.serial,
            certificate=bundle(accepted.chain[:1]),
            chain=bundle(accepted.chain[1:]),
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            renew_after=renew_after.replace(microsecond=0),
            broker=broker,
        )
        until = f"{leaf.not_after:%Y-%m-%d %H:%MZ}"
        _log.info(
            "got the certificate %s, valid until %s", leaf.serial, until, extra=fields(serial=leaf.serial)
        )
        answer = Answer(
            credential=credential, anchors=anchors_of(accepted.anchors), attempt_floor=attempt_floor
        )
        named = replace(
            onto,
            domain=accepted.identity.domain,
            fleet=accepted.fleet or None,
            pending_hashes=hashes,
        )
        actions = self.take(answer, onto=self._believing(accepted, named))
        self._know_at_least()
        return actions

    def wish(self, serial: str, renew_after: datetime) -> None:
        """Take the server's wish when to renew the active certificate, if it is about this one."""
        life = self._record.life
        if life.active is None or life.active.serial != serial:
            return
        moment = max(renew_after.replace(microsecond=0), life.active.not_before)
        if renewal.renewal_of(life.active) <= self._clock():
            self._put_off_until = moment
        after = replace(self._record, life=replace(life, active=replace(life.active, renew_after=moment)))
        if after == self._record:
            return
        if not self._wishes.allow(monotonic()):
            _log.info("the server has wished %d times today when to renew: not kept", _WISHES_A_DAY)
            return
        self._store.save(after)
        self._record = after

    def keep(self, record: StoredRecord) -> None:
        """Write a record that differs in what stands beside the life record; raises `StateError`."""
        if record != self._record:
            self._store.save(record)
            self._record = record
            self._follow_up()

    def stand(self, rung: Rung, *, why: str) -> None:
        """Keep on which rung of the ladder of recovery the device stands now, where it has changed."""
        held = self._record.standing
        if rung is (Rung.CERTIFICATE if held is None else held.rung):
            return
        since = self._clock().replace(microsecond=0)
        standing = None if rung is Rung.CERTIFICATE else Standing(rung=rung, since=since, why=why)
        try:
            self.keep(replace(self._record, standing=standing))
        except StateError as error:
            _log.warning("%s", error)  # it is told again after the next attempt

    def lose_keys(self) -> bool:
        """Drop a pending slot whose key is gone; tell whether the active one's is.

        A key store that does not answer has lost nothing.
        """
        try:
            lost = self._record.keys - frozenset(self._keys.names())
            for key in sorted(lost):
                self.take(KeyLost(key=key))
        except (KeyStoreError, StateError) as error:
            _log.warning("%s", error)
            return False
        return self._record.life.active is not None and self._record.life.active.key in lost

    def leave_station(self) -> None:
        """Give up an enrollment over the factory line that stopped before its certificate came.

        Without this, a key that waits for a station would keep the active certificate from being renewed.
        """
        life = self._record.life
        by_station = life.proof is not None and life.proof.kind is ProofKind.STATION
        if not by_station or life.active is None:
            return
        if life.pending is None or life.pending.credential is None:
            kept = replace(life, pending=None, proof=None)
            self.keep(replace(self._record, life=kept, csr=b"", pending_hashes=None))

    def erase(self) -> None:
        """Factory reset: the record first, then every key."""
        self._store.erase()
        self._record = StoredRecord()
        for name in self._keys.names():
            self._keys.destroy(name)

    def _believing(self, accepted: Accepted, onto: StoredRecord) -> StoredRecord:
        """Note since when the domain's anchors are others, where an answer makes them so."""
        before, realm = _ders(onto.life), accepted.identity.domain
        if set(accepted.anchors) <= set(before):
            return onto
        source, since = Source.LINK if before else Source.ENROLLMENT, self._clock().replace(microsecond=0)
        held = onto.held(realm) or HeldTrust(realm=realm, since=since, source=source)
        # Which anchors they are, the table itself adds to the record, together with the certificate.
        return onto.believing(onto.life.anchors, replace(held, since=since, source=source))

    def _know_at_least(self) -> None:
        """No certificate that was accepted begins later than now."""
        pending = self._record.life.pending
        for held in (self._record.life.active, None if pending is None else pending.credential):
            if held is not None:
                self._clock.at_least(held.not_before)

    def _load(self) -> StoredRecord:
        loaded = self._store.load()
        if loaded is None:
            return StoredRecord()
        if loaded.damaged:
            _log.error("the record was damaged, the one before it is used")
            self._store.save(loaded.record)
        return loaded.record

    def _follow_up(self) -> None:
        """Bring `current/` and the keys in line with the record; what fails is done at the next start."""
        try:
            if self._record.life.active is not None:
                self._publish(self._record.life.active)
            in_use = self._store.keys_in_use()
            for name in self._keys.names():
                if name not in in_use:
                    self._keys.destroy(name)
        except (StateError, KeyStoreError) as error:
            _log.warning("%s; what is left behind is put right by a later start", error)

    def _publish(self, credential: Credential) -> None:
        reference = self._keys.reference(credential.key)
        key: dict[str, bytes | Path] = (
            {"key.pem": reference} if isinstance(reference, Path) else {"key.uri": reference.encode()}
        )
        anchors = "".join(anchor.pem for anchor in self._record.life.anchors)
        servers = "".join(anchor.pem for anchor in self._record.servers)
        certificates = {
            "cert.pem": credential.certificate.encode(),
            "chain.pem": (credential.certificate + credential.chain).encode(),
            "trust.pem": anchors.encode(),
            "servers.pem": servers.encode(),
        }
        generation = self._generation(credential)
        self._store.publish(generation, {**key, **certificates})
        self._published(generation, credential)

    def _generation(self, credential: Credential) -> str:
        """Name what `current/` holds: the certificate, and the trust bundles that were taken since."""
        versions = self._record.trust_versions
        return "-".join((credential.serial, *(f"{realm}.{version}" for realm, version in versions)))


def _settled(base: StoredRecord, life: DeviceRecord) -> StoredRecord:
    """Return the record with this life, and with what belongs to a slot moved or dropped together with it."""
    has_switched = life.active != base.life.active
    has_pending = life.pending is not None and life.pending.credential is not None
    return replace(
        base,
        life=life,
        csr=base.csr if life.pending is not None else b"",
        active_hashes=base.pending_hashes if has_switched else base.active_hashes,
        pending_hashes=base.pending_hashes if has_pending else None,
    )


def _key_hash(signer: Signer) -> str:
    return hashlib.sha256(signer.public_key_der).hexdigest()


def _ders(life: DeviceRecord) -> tuple[bytes, ...]:
    return tuple(read_bundle(anchor.pem, most=1)[0] for anchor in life.anchors)
