"""This device as the factory link sees it: the same record and keys as on any other way in.

Each act is durable when it returns. A station's COMMIT counts as the server's `confirmed`.
"""

from dataclasses import replace

from device_agent.core.acceptance import Accepted, Offer
from device_agent.core.certificates import anchor_id, read_bundle, read_leaf
from device_agent.core.events import Confirmed, Facts, ProofGiven
from device_agent.core.record import Credential, DeviceRecord
from device_agent.core.station_unit import Installation, UnitReport
from device_agent.core.stored import StoredRecord, anchors_of
from device_agent.core.trust import HeldTrust, Source
from device_agent.errors import UnacceptableAnswerError
from device_agent.life import Life
from device_agent.wire.factory import LinkState
from device_agent.wire.objects import ObjectHashes
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.trust import FLEET_REALM

_BY_STATION = Proof(kind=ProofKind.STATION)


class SerialUnit:
    """One device at one end of a factory line."""

    def __init__(
        self,
        life: Life,
        *,
        hardware_id: str,
        model: str,
        wanted_id: str = "",
        anchors: tuple[bytes, ...] = (),
    ) -> None:
        self._life = life
        self._hardware_id, self._model, self._wanted_id = hardware_id, model, wanted_id
        self._anchors = anchors

    def report(self) -> UnitReport:
        """Return who the device is and how far."""
        credential, hashes = self._shown()
        return UnitReport(
            hardware_id=self._hardware_id,
            device_id=self._life.record.device_id or self._wanted_id,
            model=self._model,
            state=_state_of(self._life.record.life),
            fingerprint=b"" if credential is None else _fingerprint(credential),
            hashes=hashes,
            anchors=self._trusted(),
        )

    def request(self, device_id: str) -> bytes:
        """Make a pending key for this id, or keep the one that was made for it; return its CSR, DER."""
        record = self._life.record
        if record.life.pending is None or record.device_id != device_id:
            self._begin(device_id)
        return self._life.record.csr

    def install(self, installation: Installation) -> None:
        """Judge the chain, then put everything into the pending slot; the active one stays."""
        configuration = installation.configuration
        servers, domains = _sorted(installation)
        accepted = self._life.judge(
            Offer(
                name=configuration.broker.name,
                chain=installation.chain,
                anchors=domains,
                serial=configuration.serial,
            )
        )
        self._put(accepted, installation, onto=self._trusting(servers))

    def sign(self, message: bytes) -> bytes:
        """Sign with the key of the slot that `report` names, ECDSA with SHA-256 in DER."""
        credential, _ = self._shown()
        key = self._life.active.key if credential is None else credential.key
        return self._life.signer(key).sign(message)

    def commit(self) -> None:
        """Make the pending slot the active one, in one write."""
        credential = self._life.pending.credential
        if credential is not None:
            # What the table wants to be sent now is sent by the first connection.
            self._life.take(Confirmed(serial=credential.serial))

    def _put(self, accepted: Accepted, installation: Installation, *, onto: StoredRecord) -> None:
        held = self._life.pending.credential
        if held is not None and accepted.leaf.serial < held.serial:
            raise UnacceptableAnswerError("the certificate is older than the one that is installed")
        if held is not None and accepted.leaf.serial == held.serial:
            self._life.keep(replace(onto, pending_hashes=installation.hashes))
            return
        configuration = installation.configuration
        self._life.put(
            accepted,
            onto=onto,
            renew_after=configuration.renew_after,
            broker=configuration.broker,
            hashes=installation.hashes,
        )

    def _trusting(self, servers: tuple[bytes, ...]) -> StoredRecord:
        """Return the record with the anchors that the station brought, where none were held."""
        record = self._life.record
        if record.servers:
            return record
        since = self._life.now().replace(microsecond=0)
        held = HeldTrust(realm=FLEET_REALM, since=since, source=Source.ENROLLMENT)
        return record.believing(anchors_of(servers), held)

    def _begin(self, device_id: str) -> None:
        """Drop what waits for another id, which no station spoke for yet, and make a key for this one."""
        record = self._life.record
        life = replace(record.life, pending=None, proof=None)
        self._life.take(ProofGiven(proof=_BY_STATION), onto=replace(record, life=life, device_id=device_id))
        self._life.make_key(Facts())

    def _shown(self) -> tuple[Credential | None, ObjectHashes | None]:
        record = self._life.record
        pending = record.life.pending
        if pending is not None and pending.credential is not None:
            return pending.credential, record.pending_hashes
        return record.life.active, record.active_hashes

    def _trusted(self) -> tuple[bytes, ...]:
        held = (read_bundle(anchor.pem, most=1)[0] for anchor in self._life.record.servers)
        return tuple(dict.fromkeys((*self._anchors, *held)))


def _state_of(life: DeviceRecord) -> LinkState:
    if life.pending is not None:
        return LinkState.KEYED if life.pending.credential is None else LinkState.PENDING
    return LinkState.FRESH if life.active is None else LinkState.ACTIVE


def _fingerprint(credential: Credential) -> bytes:
    return read_leaf(read_bundle(credential.certificate, most=1)[0]).fingerprint


def _sorted(installation: Installation) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the anchors that servers are trusted by, and those of the domain."""
    named = installation.configuration.servers
    servers = tuple(der for der in installation.anchors if anchor_id(der) in named)
    return servers, tuple(der for der in installation.anchors if der not in servers)
