"""A station that signs off line: its identity, ledger and clerk, and a way to a desk that may be cut."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from fleet.ca.requesting import signer_csr
from fleet.ca.signers import KeySigner, make_key
from fleet.core.lease import SignedLease
from fleet.core.station_rules import RuleTexts
from fleet.core.station_sync import JournalReceipt, JournalUpload
from fleet.errors import UnreachableError
from fleet.ra.context import Asker, Listener
from fleet.ra.people.stations import add_station
from fleet.ra.requests.journal_sync import sync_journal
from fleet.ra.requests.leases import LeaseOrder, grant_lease
from fleet.ra.requests.made_offline import admit_made
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.package import Issuance, IssueOrder, Package
from fleet.station.keeping.workshop import Workshop
from fleet.station.link import steps
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from tests.desk import Desk, station_order
from tests.factory_floor import MemoryUnit

RULES = RuleTexts(batches=("spring",), quotas=("spring=10",), serials=("spring=spring-0001..spring-0099",))


@dataclass(kw_only=True)
class Way:
    """An `Enroller` to a desk: nothing but journals goes over it, and those only while it is there."""

    desk: Desk
    station: str
    is_away: bool = True
    uploads: list[JournalUpload] = field(default_factory=list)

    async def issue(self, order: IssueOrder) -> Issuance:
        raise UnreachableError(f"the server is away, and {order.device_id} waits")

    async def confirm(self, serial: str) -> None:
        raise UnreachableError(f"the server is away, and {serial} waits")

    async def sync(self, upload: JournalUpload) -> JournalReceipt:
        if self.is_away:
            raise UnreachableError("the server is away")
        self.uploads.append(upload)
        asker = Asker(listener=Listener.ADMIN, station=self.station)
        synced = await sync_journal(self.desk.context, asker, upload)
        await admit_made(self.desk.context, synced.station)
        return synced.receipt


@dataclass(frozen=True, kw_only=True)
class Station:
    """What a station has on its disk, and the key of its CA."""

    desk: Desk
    identity: StationIdentity
    authority_key: KeySigner

    @property
    def name(self) -> str:
        return self.identity.name

    async def lease(self, *, count: int = 5, days: int = 7, batch: str = "spring") -> SignedLease:
        order = LeaseOrder(
            station=self.name,
            batch=batch,
            count=count,
            days=days,
            csr=signer_csr(self.authority_key, self.name),
            actor="operator:test",
        )
        return (await grant_lease(self.desk.context, order))[1]

    def workshop(self, signed: SignedLease) -> Workshop:
        return Workshop.opened(signed, identity=self.identity, signer=self.authority_key, servers=())


async def station_at(desk: Desk, name: str = "line3", rules: RuleTexts = RULES) -> Station:
    """Add a station to a desk, with keys of its own."""
    signer = KeySigner(make_key())
    new = await add_station(desk.context, station_order(name, rules=rules, csr=signer_csr(signer, name)))
    chain = x509.load_pem_x509_certificates(new.own.certificate_pem.encode())
    identity = StationIdentity(
        name=name, chain=tuple(one.public_bytes(Encoding.DER) for one in chain), signer=signer
    )
    return Station(desk=desk, identity=identity, authority_key=KeySigner(make_key()))


@dataclass(kw_only=True)
class Bench:
    """A station at work: its ledger, its clerk, and the way to the server."""

    station: Station
    ledger: Ledger
    clerk: Clerk
    way: Way

    async def made(self, hardware_id: str, *, unit: MemoryUnit | None = None) -> Package:
        """Take a unit as far as its certificate."""
        decision = await self.decided(hardware_id, unit=unit)
        assert isinstance(decision, steps.Issued), decision
        return decision.package

    async def decided(self, hardware_id: str, *, unit: MemoryUnit | None = None) -> steps.Decision:
        hello = HelloReply(nonce=bytes(16), hardware_id=hardware_id, state=LinkState.FRESH)
        enrol = await self.clerk.decide(steps.Recognise(hello=hello))
        assert isinstance(enrol, steps.Enrol), enrol
        csr = (unit or MemoryUnit(hardware_id=hardware_id)).request(enrol.device_id)
        return await self.clerk.decide(
            steps.Issue(hardware_id=hardware_id, device_id=enrol.device_id, csr=csr)
        )

    async def sync(self) -> JournalReceipt:
        """Hand the journal in: the server is there again."""
        self.way.is_away = False
        return await self.clerk.upload()


@asynccontextmanager
async def bench(station: Station, folder: Path, *, signed: SignedLease | None = None) -> AsyncIterator[Bench]:
    """Open a station's ledger, and take a lease into use, if there is one."""
    clock = station.desk.clock
    path = folder / f"{station.name}.db"
    async with Ledger.opened(path, clock=clock, identity=station.identity) as ledger:
        workshop = None
        if signed is not None:
            workshop = station.workshop(signed)
            await ledger.take_lease(signed, crl=workshop.crl())
        way = Way(desk=station.desk, station=station.name)
        clerk = Clerk(
            ledger=ledger,
            enroller=way,
            ids=IdRule(prefix="spring-"),
            batch="spring",
            clock=clock,
            workshop=workshop,
        )
        yield Bench(station=station, ledger=ledger, clerk=clerk, way=way)
