"""The first records of a new fleet, and the certificates that its own parts need to speak to each other.

Works on a home that nobody serves yet; `initialise` decides whether it ever gets its name.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.ca.crl import read_crl
from fleet.ca.founding import Founded
from fleet.ca.issuer import Issuer
from fleet.core.station_rules import BatchRule, StationRules
from fleet.home import Home
from fleet.model import AuditEntry, Certificate, CertificateState, Purpose, Role
from fleet.ports import Transaction
from fleet.ra.issue_own import OwnCertificate, OwnRequest, Surroundings, issue_own, signed_record, write_pair
from fleet.ra.people.operator_files import write_operator
from fleet.store import audit, revocations
from fleet.store.certificates import CertificateRecord, insert_certificate
from fleet.store.claims import Batch, insert_batch
from fleet.store.meta import set_meta
from fleet.store.operators import OperatorRecord, insert_operator
from fleet.store.stations import StationRecord, insert_station

SERVICE_NAME = "fleet-server"
"""Broker name of the server itself."""
CANARY_NAME = "canary"
PUBLIC_BATCH = "public"
"""Its claim certificate opens the bootstrap listener, and grants nothing without a code."""
LOCAL_BATCH = "local"
"""Units that the station of this home enrolls."""
LOCAL_STATION = "local"
"""The factory station that runs in the home itself."""
_ACTOR = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundedRoot:
    """A root that was just made: its key is open, and it has signed its first CRL."""

    realm: str
    issuer: Issuer
    crl: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """The authorities of a new fleet."""

    made: tuple[Founded, ...]
    roots: tuple[FoundedRoot, ...]
    issuers: tuple[Issuer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """One new home, with a store and authorities that work."""

    home: Home
    surroundings: Surroundings
    domains: tuple[str, ...]
    hosts: tuple[str, ...]
    operator: str
    now: datetime

    async def record(self, founding: Founding) -> int:
        """Record what was founded, issue what the fleet's parts need; return how many certificates stand.

        Raises:
            FleetError: something could not be signed or written.
        """
        store = self.surroundings.store
        await store.write(_record_first, _First(beginning=self, founding=founding))
        own = [issued async for issued in self._issue_all()]
        return len(founding.made) + len(own)

    async def _issue_all(self) -> AsyncIterator[OwnCertificate]:
        home = self.home
        server = await self._issue(purpose=Purpose.SERVER, name=self.hosts[0], hosts=self.hosts)
        write_pair(home.server, server)
        yield server
        service = await self._issue(purpose=Purpose.SERVICE, name=SERVICE_NAME)
        write_pair(home.service, service)
        yield service
        canary = await self._issue(purpose=Purpose.SERVICE, name=CANARY_NAME, revoked_at_birth=True)
        write_pair(home.canary, canary)
        yield canary
        operator = await self._issue(purpose=Purpose.OPERATOR, name=self.operator)
        randomness = self.surroundings.randomness
        write_operator(home.operator(self.operator), operator, name=self.operator, randomness=randomness)
        yield operator
        for domain in self.domains:
            name = self.station_name(domain)
            async for own in issue_for_domain(home, self.surroundings, domain, station=name, now=self.now):
                yield own

    def station_name(self, domain: str) -> str:
        """Return the name of this home's station in a domain; the first domain's is the plain one."""
        return LOCAL_STATION if domain == self.domains[0] else f"{LOCAL_STATION}-{domain}"

    async def _issue(
        self,
        *,
        purpose: Purpose,
        name: str,
        hosts: tuple[str, ...] = (),
        revoked_at_birth: bool = False,
    ) -> OwnCertificate:
        request = OwnRequest(
            purpose=purpose,
            name=name,
            actor=_ACTOR,
            hosts=hosts,
            revoked_at_birth=revoked_at_birth,
        )
        return await issue_own(self.surroundings, request, now=self.now)


async def issue_for_domain(
    home: Home, surroundings: Surroundings, domain: str, *, station: str, now: datetime
) -> AsyncIterator[OwnCertificate]:
    """Issue what a domain begins with: its station in this home, its public claim. Raises `FleetError`."""
    request = OwnRequest(purpose=Purpose.STATION, name=station, actor=_ACTOR, domain=domain)
    own = await issue_own(surroundings, request, now=now)
    write_pair(home.station(station), own)
    yield own
    # `.` is in no device name: no device can have this one.
    name = f"{domain}.{PUBLIC_BATCH}"
    request = OwnRequest(purpose=Purpose.CLAIM, name=name, actor=_ACTOR, domain=domain, batch=PUBLIC_BATCH)
    own = await issue_own(surroundings, request, now=now)
    write_pair(home.public_claim(domain), own)
    yield own


@dataclass(frozen=True, slots=True, kw_only=True)
class _First:
    beginning: Beginning
    founding: Founding


async def _record_first(tx: Transaction, first: _First) -> None:
    beginning, at = first.beginning, first.beginning.now
    await set_meta(tx, "fleet", beginning.surroundings.authority.fleet)
    await audit.append(tx, AuditEntry(at=at, action="fleet.initialised", actor=_ACTOR))
    for founded in first.founding.made:
        await record_founded(tx, founded, at)
    for root in first.founding.roots:
        await _record_root_crl(tx, root)
    role = Role.SECURITY
    await insert_operator(tx, OperatorRecord(name=beginning.operator, role=role, added_at=at))
    details = (("name", beginning.operator), ("role", role.value))
    await audit.append(tx, AuditEntry(at=at, action="operator.added", actor=_ACTOR, details=details))
    for domain in beginning.domains:
        await record_domain(tx, domain, beginning.station_name(domain), actor=_ACTOR, at=at)


async def record_domain(tx: Transaction, domain: str, station: str, *, actor: str, at: datetime) -> None:
    """Record the batches and the station that a domain begins with."""
    entry = AuditEntry(at=at, action="batch.added", actor=actor, domain=domain)
    for batch in (PUBLIC_BATCH, LOCAL_BATCH):
        await insert_batch(tx, Batch(domain=domain, name=batch, created_at=at, uses_allowed=0))
        await audit.append(tx, replace(entry, details=(("name", batch), ("uses", "0"))))
    rules = StationRules(batches=(BatchRule(batch=LOCAL_BATCH),))
    record = StationRecord(name=station, domain=domain, rules=rules, added_at=at)
    await insert_station(tx, record)
    details = (("name", station), ("batches", LOCAL_BATCH))
    await audit.append(tx, replace(entry, action="station.added", details=details))


def founded_record(founded: Founded, at: datetime) -> CertificateRecord:
    """Return what the store keeps of a certificate that was made with an authority."""
    issued = founded.issued
    return CertificateRecord(
        life=Certificate(
            serial=issued.serial,
            key_hash=issued.key_hash,
            state=CertificateState.ACTIVE,
            anchor=issued.anchor,
        ),
        purpose=founded.purpose,
        name=founded.name,
        domain=founded.domain,
        issuer=issued.issuer_id,
        created_at=at,
        changed_at=at,
        signed=signed_record(issued, profile=founded.profile),
    )


async def record_founded(tx: Transaction, founded: Founded, at: datetime) -> None:
    """Record a certificate that was made with an authority, and tell the trail."""
    issued = founded.issued
    await insert_certificate(tx, founded_record(founded, at))
    entry = AuditEntry(
        at=at,
        action="authority.made" if founded.purpose is Purpose.AUTHORITY else "certificate.issued",
        actor=_ACTOR,
        domain=founded.domain,
        serial=issued.serial,
        details=(
            ("purpose", founded.purpose.value),
            ("name", founded.name),
            ("fingerprint", issued.fingerprint),
        ),
    )
    await audit.append(tx, entry)


async def _record_root_crl(tx: Transaction, root: FoundedRoot) -> None:
    issuer = root.issuer
    crl = read_crl(root.crl, issuer.certificate)
    number = await revocations.next_crl_number(tx, issuer.issuer_id)
    stored = revocations.StoredCrl(
        issuer=issuer.issuer_id,
        number=number,
        this_update=crl.this_update,
        next_update=crl.next_update,
        der=root.crl,
    )
    await revocations.save_crl(tx, stored)
