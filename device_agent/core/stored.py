"""All that the agent keeps, as one value, and that value as text: the life record and what goes with it.

The text has a version: an older agent refuses a newer one instead of guessing. A private key is never in
it; a one-time code is, until the first certificate is confirmed, so the file is for the owner alone.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from device_agent.core.certificates import anchor_id, bundle, read_bundle
from device_agent.core.est import EstServer
from device_agent.core.ladder import Rung, Standing
from device_agent.core.record import Anchor, Credential, DeviceRecord, Pending
from device_agent.core.trust import HeldTrust, Source
from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import parse_domain, parse_name, parse_shown_serial
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import BrokerAddress, HttpsAddress
from device_agent.wire.requests import MAX_ATTEMPT, Proof
from device_agent.wire.trust import FLEET_REALM, MAX_VERSION, TrustVersions

if TYPE_CHECKING:
    from device_agent.wire.objects import ObjectHashes

VERSION = 2
_VERSION_BEFORE_EST = 1
"""An agent that speaks no EST can read what has nothing to do with it: after a roll-back it goes on."""
MAX_RECORD_BYTES = 512 * 1024

_FORMAT = "fleet-device-record"
_VERSIONS = tuple(map(str, range(_VERSION_BEFORE_EST, VERSION + 1)))
_LONGEST_PATH = 4096
_LONGEST_NAME = 64
_LONGEST_BROKER_NAME = 97
_LONGEST_SERIAL = 40
_LONGEST_CSR = 16 * 1024
_MOST_ANCHORS = 32
_MOST_REALMS = 8


class NewerRecordError(MalformedMessageError):
    """The record was written by a newer agent, and is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Where the first certificate is asked for, and the claim certificate that opens the door."""

    host: str
    port: int
    claim_certificate: str
    """Path of the PEM file, leaf first."""
    claim_key: str
    idevid_certificate: str = ""
    """Paths of the manufacturer's certificate and its key, where they prove who the device is."""
    idevid_key: str = ""
    piv_attestation: str = ""
    """Path of the folder with what a PIV token has said of its keys, where that is the proof."""
    domain: str = ""
    """Not empty where the certificate is one of another CA, by which the device is known in this domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """The life record, who the device is, and whom it trusts."""

    life: DeviceRecord = field(default_factory=DeviceRecord)
    device_id: str = ""
    """Empty until somebody gave the device one."""
    domain: str | None = None
    fleet: str | None = None
    servers: tuple[Anchor, ...] = ()
    """Roots by which servers and stations are trusted."""
    trust: tuple[HeldTrust, ...] = ()
    """Since when, and by whom, the anchors of each realm are what they are."""
    bootstrap: Bootstrap | None = None
    est: EstServer | None = None
    """Where certificates are asked for by EST; None where that is not the way."""
    recovery: HttpsAddress | None = None
    csr: bytes = b""
    """The request for the pending key, DER: sent again, it is the same bytes."""
    active_hashes: "ObjectHashes | None" = None
    """Of the objects that a station wrote for this slot; None where it came another way."""
    pending_hashes: "ObjectHashes | None" = None
    standing: Standing | None = None
    """Where the device stands on the ladder of recovery; None while its certificate works."""

    @property
    def keys(self) -> frozenset[str]:
        """Names of the keys that the slots need."""
        slots = (self.life.active, self.life.pending)
        return frozenset(slot.key for slot in slots if slot is not None)

    @property
    def trust_versions(self) -> TrustVersions:
        """Which bundle of each realm was taken last."""
        return tuple(sorted((held.realm, held.version) for held in self.trust if held.version))

    @property
    def est_servers(self) -> tuple[Anchor, ...]:
        """Roots by which an EST server is trusted: another maker's teaches its own (RFC 7030 3.6.1)."""
        return self.servers if self.fleet is not None else (*self.servers, *self.life.anchors)

    def held(self, realm: str) -> HeldTrust | None:
        """Return how the anchors of a realm came to be held, where that is known."""
        return next((held for held in self.trust if held.realm == realm), None)

    def anchors_in(self, realm: str) -> tuple[Anchor, ...]:
        """Return the anchors of a realm; none where this device has no part in it."""
        if realm == FLEET_REALM:
            return self.servers
        return self.life.anchors if realm == self.domain else ()

    def believing(self, anchors: tuple[Anchor, ...], held: HeldTrust) -> "StoredRecord":
        """Return the record with these anchors in a realm."""
        others = tuple(one for one in self.trust if one.realm != held.realm)
        after = replace(self, trust=(*others, held))
        if held.realm == FLEET_REALM:
            return replace(after, servers=anchors)
        return replace(after, life=replace(self.life, anchors=anchors))


def anchors_of(ders: Iterable[bytes]) -> tuple[Anchor, ...]:
    """Return DER certificates as anchors."""
    return tuple(Anchor(fingerprint=anchor_id(der), pem=bundle([der])) for der in ders)


def read_anchors(pem: str) -> tuple[Anchor, ...]:
    """Return the certificates of a PEM bundle as anchors; raises `MalformedMessageError`."""
    return anchors_of(read_bundle(pem, most=_MOST_ANCHORS))


def encode(record: StoredRecord) -> bytes:
    """Return the record as text: a line with format, version and SHA-256 of the rest, then JSON.

    Raises:
        MalformedMessageError: it could not be read back, so it must not be written.
    """
    content = _text(record)
    if decode(content) != record:
        raise MalformedMessageError("the record cannot be written without a loss")
    return content


def _text(record: StoredRecord) -> bytes:
    body = json.dumps(_members(record), separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.sha256(body).hexdigest()
    version = _VERSION_BEFORE_EST if record.est is None else VERSION
    return f"{_FORMAT} {version} {digest}\n".encode() + body + b"\n"


def decode(content: bytes) -> StoredRecord:
    """Return the record that the text holds.

    Raises:
        NewerRecordError: of a version that this agent does not know.
        MalformedMessageError: torn, changed, or no record at all.
    """
    head, _, body = content.partition(b"\n")
    match head.decode("ascii", "replace").split(" "):
        case [name, version, _] if name == _FORMAT and version.isdecimal() and int(version) > VERSION:
            raise NewerRecordError(f"the record has version {version}, this agent knows {VERSION}")
        case [name, version, digest] if name == _FORMAT and version in _VERSIONS:
            _check(body.removesuffix(b"\n"), digest)
        case _:
            raise MalformedMessageError("the record does not begin as one")
    try:
        members = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError("the record is not JSON") from error
    if not isinstance(members, dict):
        raise MalformedMessageError("the record is not a JSON object")
    return _read(Fields(members))


def _check(body: bytes, digest: str) -> None:
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), digest.encode()):
        raise MalformedMessageError("the record is damaged: its checksum is another")


def _members(record: StoredRecord) -> dict[str, object]:
    life = record.life
    return {
        "device_id": record.device_id or None,
        "domain": record.domain,
        "fleet": record.fleet,
        "servers": _anchor_text(record.servers),
        "trust": [_held_members(held) for held in record.trust] or None,
        "bootstrap": None if record.bootstrap is None else _bootstrap_members(record.bootstrap),
        "est": None if record.est is None else record.est.members(),
        "recovery": None if record.recovery is None else record.recovery.members(),
        "csr": record.csr.hex() or None,
        "active_hashes": _hashes_members(record.active_hashes),
        "pending_hashes": _hashes_members(record.pending_hashes),
        "standing": None if record.standing is None else _standing_members(record.standing),
        "active": None if life.active is None else _credential_members(life.active),
        "pending": None if life.pending is None else _pending_members(life.pending),
        "attempt": life.attempt,
        "anchors": _anchor_text(life.anchors),
        "proof": None if life.proof is None else life.proof.members(),
        "drop_acked": int(life.drop_acked),
    }


def _read(fields: Fields) -> StoredRecord:
    return StoredRecord(
        life=_life(fields),
        device_id=fields.device_id("device_id") if "device_id" in fields else "",
        domain=fields.text("domain", longest=_LONGEST_NAME) if "domain" in fields else None,
        fleet=fields.text("fleet", longest=_LONGEST_NAME) if "fleet" in fields else None,
        servers=_anchors(fields, "servers"),
        trust=tuple(map(_held, fields.objects("trust", most=_MOST_REALMS))) if "trust" in fields else (),
        bootstrap=_bootstrap(fields.object("bootstrap")) if "bootstrap" in fields else None,
        est=EstServer.read(fields.object("est")) if "est" in fields else None,
        recovery=HttpsAddress.read(fields.object("recovery")) if "recovery" in fields else None,
        csr=fields.hex("csr", lowest=1, highest=_LONGEST_CSR) if "csr" in fields else b"",
        active_hashes=_hashes(fields, "active_hashes"),
        pending_hashes=_hashes(fields, "pending_hashes"),
        standing=_standing(fields.object("standing")) if "standing" in fields else None,
    )


def _life(fields: Fields) -> DeviceRecord:
    try:
        return DeviceRecord(
            active=_credential(fields.object("active")) if "active" in fields else None,
            pending=_pending(fields.object("pending")) if "pending" in fields else None,
            attempt=fields.integer("attempt", lowest=0, highest=MAX_ATTEMPT),
            anchors=_anchors(fields, "anchors"),
            proof=Proof.read(fields.object("proof")) if "proof" in fields else None,
            drop_acked=fields.integer("drop_acked", lowest=0, highest=1) == 1,
        )
    except MalformedMessageError:
        raise
    except ValueError as error:
        raise MalformedMessageError(str(error)) from error


def _credential_members(credential: Credential) -> dict[str, object]:
    wish = credential.renew_after
    return {
        "key": credential.key,
        "key_hash": credential.key_hash,
        "serial": credential.serial,
        "certificate": credential.certificate,
        "chain": credential.chain or None,
        "not_before": time_text(credential.not_before),
        "not_after": time_text(credential.not_after),
        "renew_after": None if wish is None else time_text(wish),
        "broker": credential.broker.members() if credential.has_broker else None,
        "name": None if credential.has_broker else credential.broker.name,
    }


def _credential(fields: Fields) -> Credential:
    return Credential(
        key=fields.text("key", longest=_LONGEST_NAME),
        key_hash=fields.sha256("key_hash"),
        serial=parse_shown_serial(fields.text("serial", longest=_LONGEST_SERIAL)),
        certificate=fields.pem("certificate"),
        chain=fields.pem("chain") if "chain" in fields else "",
        not_before=fields.time("not_before"),
        not_after=fields.time("not_after"),
        renew_after=fields.time("renew_after") if "renew_after" in fields else None,
        broker=BrokerAddress.read(fields.object("broker")) if "broker" in fields else _nowhere(fields),
    )


def nowhere(name: str) -> BrokerAddress:
    """Return what stands for a broker where nobody has named one; `name` is the device's own."""
    return BrokerAddress(host="", port=0, name=name)


def _nowhere(fields: Fields) -> BrokerAddress:
    return nowhere(parse_name(fields.text("name", longest=_LONGEST_BROKER_NAME)).name)


def _pending_members(pending: Pending) -> dict[str, object]:
    credential = pending.credential
    return {
        "key": pending.key,
        "key_hash": pending.key_hash,
        "attempt": pending.attempt,
        "credential": None if credential is None else _credential_members(credential),
    }


def _pending(fields: Fields) -> Pending:
    return Pending(
        key=fields.text("key", longest=_LONGEST_NAME),
        key_hash=fields.sha256("key_hash"),
        attempt=fields.integer("attempt", lowest=0, highest=MAX_ATTEMPT),
        credential=_credential(fields.object("credential")) if "credential" in fields else None,
    )


def _anchor_text(anchors: tuple[Anchor, ...]) -> str | None:
    return "".join(anchor.pem for anchor in anchors) or None


def _anchors(fields: Fields, name: str) -> tuple[Anchor, ...]:
    return read_anchors(fields.pem(name)) if name in fields else ()


def _held_members(held: HeldTrust) -> dict[str, object]:
    return {
        "realm": held.realm,
        "since": time_text(held.since),
        "source": held.source.value,
        "version": held.version,
        "digest": held.digest or None,
    }


def _held(fields: Fields) -> HeldTrust:
    return HeldTrust(
        realm=fields.text("realm", longest=_LONGEST_NAME),
        since=fields.time("since"),
        source=fields.word("source", of=Source),
        version=fields.integer("version", lowest=0, highest=MAX_VERSION),
        digest=fields.sha256("digest") if "digest" in fields else "",
    )


def _bootstrap_members(bootstrap: Bootstrap) -> dict[str, object]:
    return {
        "host": bootstrap.host,
        "port": bootstrap.port,
        "claim_certificate": bootstrap.claim_certificate,
        "claim_key": bootstrap.claim_key,
        "idevid_certificate": bootstrap.idevid_certificate or None,
        "idevid_key": bootstrap.idevid_key or None,
        "piv_attestation": bootstrap.piv_attestation or None,
        "domain": bootstrap.domain or None,
    }


def _bootstrap(fields: Fields) -> Bootstrap:
    return Bootstrap(
        host=fields.text("host", longest=253),
        port=fields.integer("port", lowest=1, highest=65535),
        claim_certificate=fields.text("claim_certificate", longest=_LONGEST_PATH),
        claim_key=fields.text("claim_key", longest=_LONGEST_PATH),
        idevid_certificate=_path(fields, "idevid_certificate"),
        idevid_key=_path(fields, "idevid_key"),
        piv_attestation=_path(fields, "piv_attestation"),
        domain=parse_domain(fields.text("domain", longest=_LONGEST_NAME)) if "domain" in fields else "",
    )


def _path(fields: Fields, name: str) -> str:
    return fields.text(name, longest=_LONGEST_PATH) if name in fields else ""


def _standing_members(standing: Standing) -> dict[str, object]:
    return {"rung": standing.rung.value, "since": time_text(standing.since), "why": standing.why}


def _standing(fields: Fields) -> Standing:
    return Standing(
        rung=fields.word("rung", of=Rung),
        since=fields.time("since"),
        why=fields.text("why", longest=_LONGEST_NAME),
    )


def _hashes_members(hashes: "ObjectHashes | None") -> dict[str, object] | None:
    if hashes is None:
        return None
    return {
        "chain": hashes.chain.hex(),
        "anchors": hashes.anchors.hex(),
        "configuration": hashes.configuration.hex(),
    }


def _hashes(fields: Fields, name: str) -> "ObjectHashes | None":
    if name not in fields:
        return None
    from device_agent.wire.objects import ObjectHashes  # noqa: PLC0415 - only a factory-made record has them

    found = fields.object(name)
    return ObjectHashes(
        chain=found.hex("chain", lowest=32, highest=32),
        anchors=found.hex("anchors", lowest=32, highest=32),
        configuration=found.hex("configuration", lowest=32, highest=32),
    )
