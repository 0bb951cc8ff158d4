"""What a gateway carries between a unit and the server, and what it never makes up."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire import messages
from device_agent.wire.carried import (
    CarriedAnswer,
    ConfirmedAnswer,
    DeadAnswer,
    StatusAnswer,
    parse_answer,
)
from device_agent.wire.factory import LinkState, answer_text, station_text
from device_agent.wire.objects import ObjectId, hashes_of, parse_certificates
from device_agent.wire.replies import BrokerAddress, ReportedState
from fleet.errors import RefusedError, UnreachableError
from fleet.station.gateway import Gateway, Outcome, Visit
from fleet.station.link.conversation import Conversation
from fleet.station.server.courier import SignedRequest
from tests.factory_floor import NOW, Floor, der, issue_leaf
from tests.pki import Authority

FLOOR = Floor()
SESSION, NONCE = b"session!", bytes(range(16))
ROOT = Authority.root("acme prod root")
ISSUING = ROOT.issuing("acme prod devices")
LEAF = issue_leaf(ISSUING, ec.generate_private_key(ec.SECP256R1()).public_key(), "d1")
SERIAL = f"{LEAF.serial_number:032x}"


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def issued(link: str | None = None) -> messages.Issued:
    return messages.Issued(
        id="m",
        serial=SERIAL,
        certificate=pem(LEAF),
        chain=pem(ISSUING.certificate),
        trust=pem(ROOT.certificate),
        link=link,
        renew_after=NOW + timedelta(days=10),
        broker=BrokerAddress(host="localhost", port=8883, name="prod:d1"),
    )


def status(state: ReportedState) -> messages.Status:
    return messages.Status(id="m", serial=SERIAL, state=state, renew_after=NOW)


CONFIRMED = messages.Confirmed(id="m", serial=SERIAL)
DEAD = messages.Dead(id="m", key_hash="ab" * 32, attempt_floor=3)


class ScriptedUnit(Conversation):
    """A unit that asks these things in turn; it keeps what it was told."""

    def __init__(self, *asked: replies.Asked, state: LinkState = LinkState.ACTIVE) -> None:
        self._asked = iter(asked)
        self._state = state
        self.objects: dict[ObjectId, bytes] = {}
        self.calls: list[requests.Request] = []

    @property
    def session(self) -> bytes:
        return SESSION

    def allow(self, largest: int) -> None:
        assert largest == 2048

    async def call(self, request: requests.Request) -> replies.Reply:
        self.calls.append(request)
        match request:
            case requests.Hello():
                return replies.HelloReply(
                    nonce=NONCE, hardware_id="hw-1", device_id="d1", state=self._state, largest=2048
                )
            case requests.Ask():
                return asking(next(self._asked))
            case requests.Install(hashes=asked):
                return replies.InstallReply(fingerprint=asked.chain)
            case _:
                return replies.HearReply(state=LinkState.ACTIVE)

    async def read(self, object_id: int, *, length: int, digest: bytes) -> bytes:
        assert (length, digest) in ((10, b"d" * 32), (20, b"c" * 32))
        return f"object {object_id}".encode()

    async def write(self, objects: dict[ObjectId, bytes]) -> None:
        self.objects = dict(objects)

    @property
    def heard(self) -> list[CarriedAnswer]:
        return [parse_answer(one.answer) for one in self.calls if isinstance(one, requests.Hear)]


def asking(kind: replies.Asked) -> replies.AskReply:
    if kind is replies.Asked.NOTHING:
        return replies.AskReply(kind=kind)
    return replies.AskReply(
        kind=kind,
        length=10,
        digest=b"d" * 32,
        certificate_length=20,
        fingerprint=b"c" * 32,
        signature=b"\x30",
    )


class ScriptedCourier:
    """A server that answers these things in turn."""

    def __init__(self, answers: Iterable[messages.Reply]) -> None:
        self._answers: Iterator[messages.Reply] = iter(answers)
        self.carried: list[SignedRequest] = []

    async def nonce(self) -> bytes:
        return b"n" * 32

    async def carry(self, signed: SignedRequest) -> messages.Reply:
        self.carried.append(signed)
        try:
            return next(self._answers)
        except StopIteration as error:
            raise UnreachableError("the server does not answer") from error


async def visit(unit: ScriptedUnit, *answers: messages.Reply) -> tuple[Visit, ScriptedCourier]:
    courier = ScriptedCourier(answers)
    gateway = Gateway(identity=FLOOR.identity, courier=courier, servers=(FLOOR.anchor,), clock=lambda: NOW)
    return await gateway.visit(unit), courier


def verify(signature: bytes, text: bytes) -> None:
    key = x509.load_der_x509_certificate(FLOOR.identity.chain[0]).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, text, ec.ECDSA(hashes.SHA256()))


RENEW, CONFIRM, STATUS = replies.Asked.RENEW, replies.Asked.CONFIRM, replies.Asked.STATUS


async def test_what_the_unit_signed_goes_to_the_server_as_it_is() -> None:
    unit = ScriptedUnit(STATUS)
    _, courier = await visit(unit, status(ReportedState.ACTIVE))
    assert courier.carried == [
        SignedRequest(request=b"object 3", certificate=b"object 4", nonce=b"n" * 32, signature=b"\x30")
    ]
    assert unit.calls[1] == requests.Ask(nonce=b"n" * 32, time=int(NOW.timestamp()))


async def test_a_renewal_is_installed_and_confirmed_on_the_stations_word() -> None:
    unit = ScriptedUnit(RENEW, CONFIRM)
    done, _ = await visit(unit, issued(), CONFIRMED)
    assert done == Visit(hardware_id="hw-1", device_id="d1", outcome=Outcome.RENEWED, serial=SERIAL)
    assert unit.heard == [ConfirmedAnswer(serial=bytes.fromhex(SERIAL))]
    order = next(one for one in unit.calls if isinstance(one, requests.Install))
    written = hashes_of(
        chain=unit.objects[ObjectId.CHAIN],
        anchors=unit.objects[ObjectId.ANCHORS],
        configuration=unit.objects[ObjectId.CONFIGURATION],
    )
    assert order.hashes == written
    verify(order.signature, station_text(SESSION, device_nonce=NONCE, hashes=written))
    heard = next(one for one in unit.calls if isinstance(one, requests.Hear))
    verify(heard.signature, answer_text(SESSION, device_nonce=NONCE, answer=heard.answer))


async def test_links_stand_above_the_issuing_ca_the_newest_first() -> None:
    oldest, newest = Authority.root("link 1").certificate, Authority.root("link 2").certificate
    unit = ScriptedUnit(RENEW, CONFIRM)
    await visit(unit, issued(link=pem(oldest) + pem(newest)), CONFIRMED)
    chain = parse_certificates(unit.objects[ObjectId.CHAIN])
    assert chain == (der(LEAF), der(ISSUING.certificate), der(newest), der(oldest))


async def test_a_dead_key_is_told_and_the_unit_asked_again() -> None:
    unit = ScriptedUnit(RENEW, STATUS)
    done, _ = await visit(unit, DEAD, status(ReportedState.ACTIVE))
    assert done.outcome is Outcome.CURRENT
    assert unit.heard[0] == DeadAnswer(key_hash=b"\xab" * 32, attempt_floor=3)


@pytest.mark.parametrize("state", [ReportedState.SUPERSEDED, ReportedState.EXPIRED])
async def test_a_certificate_that_is_over_is_told_and_the_unit_asked_again(state: ReportedState) -> None:
    unit = ScriptedUnit(STATUS, RENEW, CONFIRM)
    done, _ = await visit(unit, status(state), issued(), CONFIRMED)
    assert done.outcome is Outcome.RENEWED
    first = unit.heard[0]
    assert isinstance(first, StatusAnswer)
    assert first.is_over


@pytest.mark.parametrize("state", [ReportedState.REVOKED, ReportedState.SUSPENDED])
async def test_a_certificate_that_is_barred_is_a_refusal_with_its_name(state: ReportedState) -> None:
    with pytest.raises(RefusedError, match=f"of d1 is {state}"):
        await visit(ScriptedUnit(STATUS), status(state))


async def test_a_blank_unit_is_left_to_a_factory_line() -> None:
    unit = ScriptedUnit(state=LinkState.FRESH)
    done, courier = await visit(unit)
    assert (done.outcome, len(unit.calls), courier.carried) == (Outcome.BLANK, 1, [])


async def test_a_unit_that_a_station_has_begun_asks_nothing() -> None:
    done, _ = await visit(ScriptedUnit(replies.Asked.NOTHING, state=LinkState.KEYED))
    assert done.outcome is Outcome.BLANK


async def test_without_an_answer_of_the_server_the_unit_is_told_nothing() -> None:
    unit = ScriptedUnit(RENEW)
    with pytest.raises(UnreachableError):
        await visit(unit)
    assert [type(one) for one in unit.calls] == [requests.Hello, requests.Ask]


async def test_an_answer_that_is_none_of_a_renewals_is_not_told_on() -> None:
    unit = ScriptedUnit(RENEW)
    with pytest.raises(UnreachableError, match="done-ack"):
        await visit(unit, messages.DoneAck(id="m", serial=SERIAL))
    assert unit.heard == []


async def test_a_unit_that_asks_without_an_end_is_left() -> None:
    with pytest.raises(RefusedError, match="again and again"):
        await visit(ScriptedUnit(*[RENEW] * 9), *[DEAD] * 9)


def test_what_is_no_certificate_is_not_carried() -> None:
    wrong = SignedRequest(request=b"{}", certificate=b"none", nonce=b"n" * 32, signature=b"\x30")
    with pytest.raises(RefusedError, match="no certificate"):
        wrong.encode()
