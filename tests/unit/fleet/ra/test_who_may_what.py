"""Every certificate of ours against every request: each does its own acts, and nobody else's."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Challenge, Confirmed, DoneAck, Issued, Problem, Reply, Status, Time
from device_agent.wire.requests import Attest, Confirm, Done, Proof, ProofKind, Renew, StatusQuery, TimeQuery
from device_agent.wire.secret import Secret
from fleet.home import Home
from fleet.ports import Transaction
from fleet.ra.context import Asker, Listener
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.requests.answer import answer, answer_unit_confirm
from fleet.ra.shown import ShownCertificate, shown_certificate
from tests.desk import Desk, Unit, body_of

REFUSALS = {ProblemCode.NOT_ALLOWED, ProblemCode.UNKNOWN_DEVICE, ProblemCode.CODE_INVALID}
MAY: dict[str, set[str]] = {
    "nobody": set(),
    "device": {"renew", "confirm", "done", "status", "time"},
    "claim": {"enroll by claim", "attest"},
    "public claim": {"attest"},
    "station": {"enroll by station", "confirm a unit"},
    "operator": set(),
    "server": set(),
    "service": set(),
    "canary": set(),
}
REQUESTS = [
    "enroll by a wrong code",
    "enroll by claim",
    "enroll by station",
    "enroll by a listed key",
    "enroll by a manufacturer's certificate",
    "enroll by a TPM",
    "attest",
    "renew",
    "confirm",
    "done",
    "status",
    "time",
    "confirm a unit",
]


@dataclass(kw_only=True)
class Cast:
    """Everybody's certificate, a registered id that is free, and a unit that the station made."""

    desk: Desk
    shown: dict[str, ShownCertificate | None]
    unit: Issued
    free: Unit = field(default_factory=lambda: Unit(device_id="free"))

    async def ask(self, who: str, what: str, *, listener: Listener) -> Reply:
        asker = Asker(listener=listener, address="192.0.2.9", certificate=self.shown[who])
        if what == "confirm a unit":
            confirm = body_of(Confirm(id="c"))
            return await answer_unit_confirm(self.desk.context, asker, confirm, serial=self.unit.serial)
        wrong = Proof(kind=ProofKind.CODE, code=Secret("nothing"))
        request = {
            "enroll by a wrong code": self.free.enroll(wrong),
            "enroll by claim": self.free.enroll(Proof(kind=ProofKind.CLAIM)),
            "enroll by station": Unit(device_id="unit-2").enroll(Proof(kind=ProofKind.STATION)),
            "enroll by a listed key": self.free.enroll(Proof(kind=ProofKind.MANIFEST)),
            "enroll by a manufacturer's certificate": self.free.enroll(Proof(kind=ProofKind.IDEVID)),
            "enroll by a TPM": self.free.enroll(Proof(kind=ProofKind.TPM)),
            "attest": Attest(id="a", device_id="free", key_hash=self.free.key_hash, proof=ProofKind.IDEVID),
            "renew": Renew(id="r", csr=Unit(device_id="").csr, attempt=1),
            "confirm": Confirm(id="c"),
            "done": Done(id="d"),
            "status": StatusQuery(id="s"),
            "time": TimeQuery(id="t", nonce=b"n" * 16),
        }[what]
        return await answer(self.desk.context, asker, request)


@pytest.fixture
async def cast(desk: Desk) -> Cast:
    order = BatchOrder(domain="prod", name="b1", uses=9, lifetime=timedelta(days=30), actor="operator:test")
    claim = await create_batch(desk.context, order)
    await desk.register("free", batch="b1")
    _, device = await desk.enrolled("d1")
    assert isinstance(await answer(desk.context, desk.speaking(device), Confirm(id="c")), Confirmed)
    station = Asker(listener=Listener.ADMIN, station="local")
    proof = Proof(kind=ProofKind.STATION)
    unit = await answer(desk.context, station, Unit(device_id="unit-1").enroll(proof))
    assert isinstance(unit, Issued)
    shown = {name: in_file(path) for name, path in files(desk.context.home).items()}
    own = shown_certificate(claim.own.certificate.public_bytes(Encoding.DER))
    everybody = {"nobody": None, "claim": own, "device": in_text(device.certificate), **shown}
    return Cast(desk=desk, shown=everybody, unit=unit)


def files(home: Home) -> dict[str, Path]:
    return {
        "public claim": home.public_claim("prod").certificate,
        "station": home.station("local").certificate,
        "operator": home.operator("admin").certificate,
        "server": home.server.certificate,
        "service": home.service.certificate,
        "canary": home.canary.certificate,
    }


def in_file(path: Path) -> ShownCertificate:
    return in_text(path.read_text())


def in_text(pem: str) -> ShownCertificate:
    return shown_certificate(x509.load_pem_x509_certificates(pem.encode())[0].public_bytes(Encoding.DER))


async def count(tx: Transaction, _argument: None) -> object:
    return await tx.fetch_all("SELECT serial, state FROM certificates ORDER BY serial")


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("who", MAY)
async def test_over_https_each_certificate_does_its_own_acts_alone(cast: Cast, who: str, what: str) -> None:
    store = cast.desk.context.store
    before = await store.read(count, None)

    reply = await cast.ask(who, what, listener=Listener.HTTPS)

    if what in MAY[who]:
        assert isinstance(reply, Challenge | Issued | Confirmed | DoneAck | Status | Time), reply
    else:
        assert isinstance(reply, Problem), reply
        assert reply.code in REFUSALS
        assert await store.read(count, None) == before


@pytest.mark.parametrize("what", REQUESTS)
async def test_over_the_socket_nobody_but_a_station_of_this_home_asks_as_a_device_does(
    cast: Cast, what: str
) -> None:
    before = await cast.desk.context.store.read(count, None)

    reply = await cast.ask("nobody", what, listener=Listener.ADMIN)

    assert isinstance(reply, Problem), reply
    assert await cast.desk.context.store.read(count, None) == before


@pytest.mark.parametrize("what", [request for request in REQUESTS if "enroll" not in request])
async def test_at_bootstrap_nothing_is_heard_but_an_enrollment(cast: Cast, what: str) -> None:
    before = await cast.desk.context.store.read(count, None)

    reply = await cast.ask("nobody", what, listener=Listener.BOOTSTRAP)

    assert isinstance(reply, Problem), reply
    assert await cast.desk.context.store.read(count, None) == before
