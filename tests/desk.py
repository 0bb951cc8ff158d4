"""A registration authority at work for tests: real home, authority and store; a broker in memory."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.replies import Issued
from device_agent.wire.requests import Enroll, Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet import config
from fleet.core import events
from fleet.core.station_rules import RuleTexts
from fleet.errors import SequenceGapError, UnreachableError
from fleet.grants import DEFAULT_CLASSES, Classes
from fleet.model import (
    Allowlist,
    AllowlistChange,
    AllowlistEntry,
    BrokerEvent,
    BrokerEventKind,
    ClientKind,
    CutOff,
    RevocationReason,
    Session,
)
from fleet.ports import Transaction
from fleet.ra.allowlist import BrokerLink
from fleet.ra.context import Asker, Context, Endpoints, Listener
from fleet.ra.crls import CrlBook
from fleet.ra.in_force import InForce
from fleet.ra.judging import Circumstances, settle
from fleet.ra.limits import RateLimiter
from fleet.ra.nonces import Nonces
from fleet.ra.people.stations import StationOrder
from fleet.ra.presence import Presence
from fleet.ra.requests.answer import answer
from fleet.ra.requests.observe import observe
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import Receipt, revoke
from fleet.ra.turns import Turns
from fleet.store.certificates import load_certificate
from fleet.store.codes import Grant, GrantKind, code_hash
from fleet.store.connections import Sealing
from fleet.store.devices import DeviceRecord, insert_device, load_device
from fleet.store.sqlite import open_store
from tests.homes import FleetHome, key_ring

NOON = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)


class MovedClock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


class MemoryBroker:
    """`ports.SupervisedBroker` in memory: holds a list, and sessions that tests open."""

    def __init__(self) -> None:
        self.listed: dict[str, AllowlistEntry] = {}
        self.sequence: int | None = None
        self.live: list[Session] = []
        self.stamps = 0
        self.crls: tuple[bytes, ...] = ()
        self.fails = False
        self.happened: list[BrokerEvent] = []
        self.classes: Classes = DEFAULT_CLASSES

    async def replace(self, allowlist: Allowlist) -> None:
        self._require_up()
        self.listed = {entry.serial: entry for entry in allowlist.entries}
        self.sequence = allowlist.sequence
        self._drop()

    async def change(self, change: AllowlistChange) -> Sequence[CutOff]:
        self._require_up()
        if self.sequence is None or change.sequence != self.sequence + 1:
            raise SequenceGapError(f"{change.sequence} does not follow {self.sequence}")
        for entry in change.removed:
            self.listed.pop(entry.serial, None)
        self.listed |= {entry.serial: entry for entry in change.added}
        self.sequence = change.sequence
        return self._drop()

    async def kick(self, name: str) -> Sequence[CutOff]:
        gone = [session for session in self.live if session.name == name]
        self.live = [session for session in self.live if session.name != name]
        return [_cut(session) for session in gone]

    async def sessions(self) -> Sequence[Session]:
        self._require_up()
        return tuple(self.live)

    async def events(self) -> AsyncIterator[BrokerEvent]:
        for event in self.happened:
            yield event

    async def doubtful(self) -> str:
        await asyncio.Event().wait()
        return "never"

    async def stamp(self) -> int:
        self._require_up()
        return self.stamps

    async def publish_crls(self, crls: Sequence[bytes]) -> None:
        self._require_up()
        self.crls = tuple(crls)

    async def govern(self, classes: Classes) -> None:
        self._require_up()
        self.classes = classes

    def age(self) -> timedelta:
        return timedelta(0)

    def connect(self, serial: str) -> Session:
        """Open a session with a listed certificate."""
        entry = self.listed[serial]
        session = Session(
            broker="memory",
            name=entry.name,
            client_id=entry.name,
            issuer=entry.issuer,
            serial=serial,
            address="192.0.2.1",
            connected_at=NOON,
        )
        self.live.append(session)
        return session

    def _drop(self) -> list[CutOff]:
        gone = [session for session in self.live if session.serial not in self.listed]
        self.live = [session for session in self.live if session.serial in self.listed]
        return [_cut(session) for session in gone]

    def _require_up(self) -> None:
        if self.fails:
            raise UnreachableError("the broker does not answer")


def _cut(session: Session) -> CutOff:
    return CutOff(broker=session.broker, name=session.name, serial=session.serial, cut_off_ms=0.5)


@dataclass(kw_only=True)
class Unit:
    """A device's end: one key and its CSR."""

    device_id: str = ""
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def csr(self) -> str:
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, self.device_id)] if self.device_id else []
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    @property
    def key_hash(self) -> str:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        return digest.finalize().hex()

    def enroll(self, proof: Proof) -> Enroll:
        return Enroll(id=str(uuid4()), device_id=self.device_id, csr=self.csr, proof=proof)

    def at_bootstrap(self) -> Asker:
        return Asker(listener=Listener.BOOTSTRAP, client_id=self.key_hash)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The context under test, and what tests move."""

    context: Context
    broker: MemoryBroker
    clock: MovedClock

    async def register(self, device_id: str, *, domain: str = "prod", batch: str | None = None) -> Identity:
        identity = Identity(domain=domain, device_id=device_id)
        record = DeviceRecord(
            identity=identity, registered_at=self.clock(), batch=batch, kind=ClientKind.AGENT
        )
        await self.context.store.write(insert_device, record)
        return identity

    async def code_for(
        self, identity: Identity, *, code: str = "", lifetime: timedelta = timedelta(days=1)
    ) -> Proof:
        """Register the device, if it is new, and return the proof of a fresh code for it."""
        secret = Secret(code or uuid4().hex)
        granting = Granting(
            identity=identity, secret=secret, at=self.clock(), expires_at=self.clock() + lifetime
        )
        await self.context.store.write(grant_code, granting)
        return Proof(kind=ProofKind.CODE, code=secret)

    async def enrolled(self, device_id: str = "d1", *, domain: str = "prod") -> tuple[Unit, Issued]:
        """Return a unit with its first certificate, not confirmed."""
        identity = await self.register(device_id, domain=domain)
        unit = Unit(device_id=device_id)
        proof = await self.code_for(identity)
        reply = await answer(self.context, unit.at_bootstrap(), unit.enroll(proof))
        assert isinstance(reply, Issued), reply
        return unit, reply

    async def revoke(self, device_id: str, *, domain: str = "prod") -> Receipt:
        identity = Identity(domain=domain, device_id=device_id)
        return await revoke(
            self.context,
            ByDevice(identities=(identity,)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )

    async def happens(self, kind: BrokerEventKind, serial: str, *, stamp: int, issuer: str = "") -> None:
        """Let the broker tell of a connection, and return when it has been judged.

        As real ones, it has no name for a certificate that is not on its list.
        """
        row = await self.context.store.read(load_certificate, serial)
        assert row is not None
        listed = self.broker.listed.get(serial)
        name = listed.name if listed is not None else ""
        event = BrokerEvent(
            kind=kind,
            stamp=stamp,
            issuer=issuer or row.issuer,
            serial=serial,
            name=name,
            client_id="prod:d1",
            at=self.clock(),
        )
        self.broker.happened = [event]
        await observe(self.context, self.broker)

    def speaking(self, issued: Issued, *, device_id: str = "d1", domain: str = "prod") -> Asker:
        """Return the asker on the operational listener with this certificate."""
        identity = Identity(domain=domain, device_id=device_id)
        return Asker(listener=Listener.OPERATIONAL, identity=identity, serial=issued.serial)


def station_order(
    name: str,
    *batches: str,
    domain: str = "prod",
    csr: str = "",
    rules: RuleTexts | None = None,
    actor: str = "operator:test",
) -> StationOrder:
    """Return the order for a station, with a fresh key unless told otherwise."""
    return StationOrder(
        name=name,
        domain=domain,
        rules=rules or RuleTexts(batches=batches),
        csr=csr or Unit(device_id=name).csr,
        actor=actor,
    )


@dataclass(frozen=True, kw_only=True)
class Granting:
    identity: Identity
    secret: Secret
    at: datetime
    expires_at: datetime


async def grant_code(tx: Transaction, granting: Granting) -> None:
    device = await load_device(tx, granting.identity)
    assert device is not None
    hashed = code_hash(granting.secret)
    grant = Grant(code_id=hashed[:32], kind=GrantKind.CODE, code_hash=hashed, expires_at=granting.expires_at)
    circumstances = Circumstances(at=granting.at, actor="operator:test")
    await settle(tx, device, (events.Grant(code_id=grant.code_id),), circumstances, (grant,))


@asynccontextmanager
async def at_desk(
    fleet_home: FleetHome, folder: Path, *, toml: str | None = None, seal: Sealing | None = None
) -> AsyncIterator[Desk]:
    """Open a copy of the home's database, and a context on it."""
    home = fleet_home.home
    database = folder / "fleet.db"
    await asyncio.to_thread(copyfile, home.database, database)
    settings = config.load(home.config) if toml is None else config.parse(toml)
    clock, broker = MovedClock(NOON), MemoryBroker()
    async with open_store(database, seal=seal) as store:
        context = Context(
            fleet=settings.fleet,
            in_force=InForce(fleet_home.authority, settings, keys=key_ring(home)),
            store=store,
            clock=clock,
            randomness=os.urandom,
            home=home,
            endpoints=Endpoints(
                host="fleet.example.org",
                mqtt_port=8883,
                mqtt_bootstrap_port=8884,
                https_port=8443,
                http_port=8080,
            ),
            broker=BrokerLink(store, (broker,)),
            driver="memory",
            answering=lambda: True,
            crls=CrlBook(),
            presence=Presence(),
            nonces=Nonces(os.urandom(32)),
            turns=Turns(),
            by_address=RateLimiter(per_minute=settings.policy.recover_per_minute),
            by_device=RateLimiter(per_minute=settings.policy.recover_per_minute),
        )
        await context.broker.synchronise()
        yield Desk(context=context, broker=broker, clock=clock)


def body_of(request: messages.Request) -> bytes:
    return messages.encode(request)
