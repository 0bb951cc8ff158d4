"""What the firmware does not install, whoever signed for it: each offer is wrong in one way."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire import messages
from device_agent.wire.carried import CarriedAnswer, ConfirmedAnswer, DeadAnswer, encode_answer
from device_agent.wire.factory import LinkState, Rc, answer_text, station_text
from device_agent.wire.messages import BrokerAddress
from device_agent.wire.objects import ObjectId, ReadableId, encode_certificates
from device_agent.wire.proofs import recovery_text
from fleet.station.keeping.package import Issuance, IssueOrder, Package, pack
from fleet.station.own.identity import StationIdentity
from tests.factory_floor import NOW, Floor, der
from tests.factory_line import FLOOR
from tests.mcu import Caller, McuWire, caller_of, firmware, new_board, wired
from tests.pki import Authority

__all__ = ["firmware"]

pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("qemu-system-arm")]

ROOT = Authority.root("acme prod root")
ISSUING = ROOT.issuing("acme prod devices")
ELSEWHERE = Floor()
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
SERVER_NONCE = bytes(range(32))
HALVES = (0x1000, 0x5000)
CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING


@dataclass(frozen=True, kw_only=True)
class Offer:
    """All of a right offer; a test changes one thing."""

    issuer: Authority = field(default_factory=lambda: ISSUING)
    key: ec.EllipticCurvePublicKey | None = None
    common_name: str = "d1"
    dns_name: str = "d1.prod.acme"
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)
    is_ca: bool = False
    critical: x509.ExtensionType | None = None
    serial: int = 0x41 << 120 | 7
    told_serial: int | None = None
    hardware_id: str = "hw-1"
    device_id: str = "d1"
    domain: str = "prod"
    chain: tuple[Authority, ...] = (ISSUING,)
    anchors: tuple[Authority, ...] = (ROOT,)
    station: StationIdentity = field(default_factory=lambda: FLOOR.identity)

    def leaf(self, csr: bytes) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)]))
            .issuer_name(self.issuer.certificate.subject)
            .public_key(self.key or x509.load_der_x509_csr(csr).public_key())
            .serial_number(self.serial)
            .not_valid_before(NOW - timedelta(hours=1))
            .not_valid_after(NOW + timedelta(days=20))
            .add_extension(x509.BasicConstraints(ca=self.is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.dns_name)]), critical=False)
        )
        if self.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.usages), critical=False)
        if self.critical:
            builder = builder.add_extension(self.critical, critical=True)
        return builder.sign(self.issuer.key, hashes.SHA256())

    def package(self, csr: bytes) -> Package:
        serial = self.serial if self.told_serial is None else self.told_serial
        issuance = Issuance(
            serial=f"{serial:032x}",
            chain=(der(self.leaf(csr)), *(der(one.certificate) for one in self.chain)),
            anchors=tuple(der(one.certificate) for one in self.anchors),
            servers=(FLOOR.anchor,),
            renew_after=NOW + timedelta(days=10),
            broker=BrokerAddress(host="localhost", port=8883, name=f"{self.domain}:{self.device_id}"),
        )
        order = IssueOrder(device_id=self.device_id, hardware_id=self.hardware_id, csr=csr)
        return pack(order, issuance)


@pytest.fixture(scope="module")
def wire(firmware: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McuWire]:
    """One unit for all offers: what it refuses changes nothing."""
    with wired(new_board(firmware, tmp_path_factory.mktemp("unit"))) as wire:
        yield wire


_sessions = iter(range(10**6))


def fresh(wire: McuWire) -> tuple[Caller, replies.HelloReply, bytes]:
    """Open a session of its own; return it with the unit's greeting and its request."""
    caller = Caller(wire, session=next(_sessions).to_bytes(8))
    return caller, caller.hello(), caller.csr("d1")


def install(
    wire: McuWire, offer: Offer, *, bend: Callable[[requests.Install], requests.Install] = lambda it: it
) -> int:
    """Return the rc that the unit answers an offer with."""
    caller, hello, csr = fresh(wire)
    package = offer.package(csr)
    caller.write({**package.objects, ObjectId.STATION_CHAIN: encode_certificates(offer.station.chain)})
    text = station_text(caller.session, device_nonce=hello.nonce, hashes=package.hashes)
    order = requests.Install(hashes=package.hashes, signature=offer.station.sign(text))
    return caller.rc(bend(order))


SHORT = ROOT.issuing("acme prod short")
DEEP = SHORT.issuing("acme prod deep")
NAMESAKE = Authority.root("acme prod root")
OTHER_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
LONG_KEY = ec.generate_private_key(ec.SECP384R1()).public_key()

WRONG = {
    "another key": (Offer(key=OTHER_KEY), Rc.KEY_MISMATCH),
    "a key of another curve": (Offer(key=LONG_KEY), Rc.KEY_MISMATCH),
    "another common name": (Offer(common_name="d2"), Rc.UNAUTHORISED),
    "another device id": (Offer(device_id="d2"), Rc.UNAUTHORISED),
    "another unit": (Offer(hardware_id="hw-2"), Rc.UNAUTHORISED),
    "another name in the san": (Offer(dns_name="d2.prod.acme"), Rc.UNAUTHORISED),
    "another domain": (Offer(domain="lab"), Rc.UNAUTHORISED),
    "no fleet in the san": (Offer(dns_name="d1.prod"), Rc.UNAUTHORISED),
    "another serial than told": (Offer(told_serial=0x41 << 120), Rc.UNAUTHORISED),
    "a ca": (Offer(is_ca=True), Rc.UNAUTHORISED),
    "no usage": (Offer(usages=()), Rc.UNAUTHORISED),
    "a server's usage alone": (Offer(usages=(SERVER,)), Rc.UNAUTHORISED),
    "a usage too many": (Offer(usages=(CLIENT, CODE_SIGNING)), Rc.UNAUTHORISED),
    "an unknown critical extension": (Offer(critical=x509.OCSPNoCheck()), Rc.UNAUTHORISED),
    "a chain without its issuing ca": (Offer(chain=()), Rc.UNAUTHORISED),
    "a chain to a namesake of the root": (Offer(anchors=(NAMESAKE,)), Rc.UNAUTHORISED),
    "no anchor": (Offer(anchors=()), Rc.UNAUTHORISED),
    "a leaf of a ca below one that may have none": (
        Offer(issuer=DEEP, chain=(DEEP, SHORT)),
        Rc.UNAUTHORISED,
    ),
    "the word of another fleet's station": (Offer(station=ELSEWHERE.identity), Rc.UNAUTHORISED),
    "the word of a server": (Offer(station=FLOOR.station("s1", purpose="server")), Rc.UNAUTHORISED),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_offer_is_refused_and_leaves_the_unit_as_it_was(wire: McuWire, name: str) -> None:
    offer, rc = WRONG[name]
    assert install(wire, offer) == rc
    assert caller_of(wire).hello().state is LinkState.KEYED


def test_an_order_for_other_hashes_is_refused(wire: McuWire) -> None:
    def bend(order: requests.Install) -> requests.Install:
        return replace(order, hashes=replace(order.hashes, anchors=bytes(32)))

    assert install(wire, Offer(), bend=bend) == Rc.HASH


def test_an_order_with_a_signature_for_another_session_is_refused(wire: McuWire) -> None:
    stale = FLOOR.identity.sign(b"FFL1 station\0" + bytes(120))
    assert install(wire, Offer(), bend=lambda order: replace(order, signature=stale)) == Rc.UNAUTHORISED


def test_objects_that_are_no_certificates_are_refused(wire: McuWire) -> None:
    caller, hello, csr = fresh(wire)
    package = replace(Offer().package(csr), chain=encode_certificates((b"\x30\x03\x02\x01\x01",)))
    caller.write({**package.objects, ObjectId.STATION_CHAIN: encode_certificates(FLOOR.identity.chain)})
    text = station_text(caller.session, device_nonce=hello.nonce, hashes=package.hashes)
    order = requests.Install(hashes=package.hashes, signature=FLOOR.identity.sign(text))
    assert caller.rc(order) == Rc.UNSUPPORTED


def test_an_object_with_a_gap_or_too_long_is_refused(wire: McuWire) -> None:
    caller, _, _ = fresh(wire)
    gap = requests.Write(object_id=ObjectId.CHAIN, offset=1, octets=b"x")
    assert caller.rc(gap) == Rc.OFFSET
    with suppress(AssertionError):
        caller.write({ObjectId.CHAIN: bytes(2048)})
    over = requests.Write(object_id=ObjectId.CHAIN, offset=2048, octets=bytes(1024))
    assert caller.rc(over) == Rc.OFFSET


def test_a_right_offer_is_installed_and_an_older_one_never_takes_its_place(
    firmware: Path, tmp_path: Path
) -> None:
    with wired(new_board(firmware, tmp_path)) as wire:
        assert install(wire, Offer()) == 0
        assert install(wire, Offer(serial=0x41 << 120 | 6)) == Rc.UNAUTHORISED
        assert install(wire, Offer(serial=0x41 << 120 | 8)) == 0
        assert caller_of(wire).hello().state is LinkState.PENDING


def test_a_unit_that_believed_one_fleet_believes_no_second_one(firmware: Path, tmp_path: Path) -> None:
    with wired(new_board(firmware, tmp_path, anchors=())) as wire:
        assert install(wire, Offer()) == 0
        assert install(wire, Offer(station=ELSEWHERE.identity, serial=0x41 << 120 | 9)) == Rc.UNAUTHORISED


def test_no_answer_is_heard_without_the_word_of_a_station(firmware: Path, tmp_path: Path) -> None:
    with wired(new_board(firmware, tmp_path)) as wire:
        assert install(wire, Offer()) == 0
        caller, hello, _ = fresh(wire)
        answer = encode_answer(ConfirmedAnswer(serial=(0x41 << 120 | 7).to_bytes(16)))
        text = answer_text(caller.session, device_nonce=hello.nonce, answer=answer)
        for station, rc in ((ELSEWHERE.identity, Rc.UNAUTHORISED), (FLOOR.identity, 0)):
            heard = requests.Hear(answer=answer, signature=station.sign(text), station_chain=station.chain)
            assert caller.rc(heard) == rc
        assert caller.hello().state is LinkState.ACTIVE


def link(root: Authority, *, by: Authority) -> Authority:
    """Return the certificate by which one root vouches for another."""
    certificate = (
        x509.CertificateBuilder()
        .subject_name(root.certificate.subject)
        .issuer_name(by.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=20))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(by.key, hashes.SHA256())
    )
    return Authority(key=root.key, certificate=certificate, above=by)


def switch(wire: McuWire, offer: Offer) -> int:
    """Install an offer and commit it; return the rc of INSTALL."""
    rc = install(wire, offer)
    if rc == 0:
        caller = caller_of(wire)
        assert caller.rc(requests.Commit(fingerprint=caller.hello().fingerprint)) == 0
    return rc


def test_a_new_root_is_believed_once_a_held_one_has_signed_for_it(firmware: Path, tmp_path: Path) -> None:
    new = Authority.root("acme prod root 2")
    issuing = new.issuing("acme prod devices 2")
    unlinked = Offer(serial=0x41 << 120 | 8, issuer=issuing, chain=(issuing,), anchors=(new,))
    linked = replace(unlinked, chain=(issuing, link(new, by=ROOT)))
    with wired(new_board(firmware, tmp_path)) as wire:
        assert switch(wire, Offer()) == 0
        assert switch(wire, unlinked) == Rc.UNAUTHORISED
        assert switch(wire, linked) == 0
        assert switch(wire, replace(unlinked, serial=0x41 << 120 | 9)) == 0


def constrained(domain: str) -> Authority:
    """Return the CA of a station, which may name devices below one domain alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme line-3 CA")]))
        .issuer_name(ROOT.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=20))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.NameConstraints(permitted_subtrees=[x509.DNSName(domain)], excluded_subtrees=None),
            critical=True,
        )
        .sign(ROOT.key, hashes.SHA256())
    )
    return Authority(key=key, certificate=certificate, above=ROOT)


@pytest.mark.parametrize(("domain", "rc"), [("line-3.prod.acme", 0), ("line-4.prod.acme", Rc.UNAUTHORISED)])
def test_a_stations_own_ca_names_devices_below_its_name_only(
    firmware: Path, tmp_path: Path, domain: str, rc: int
) -> None:
    station = constrained(domain)
    offer = Offer(issuer=station, chain=(station,), dns_name="d1.line-3.prod.acme")
    with wired(new_board(firmware, tmp_path)) as wire:
        assert install(wire, offer) == rc


def ask(caller: Caller, *, time: int) -> tuple[replies.AskReply, bytes, x509.Certificate]:
    """Let the unit ask; return what it says, the exact request, and the certificate that speaks."""
    asked = caller.ask(requests.Ask(nonce=SERVER_NONCE, time=time))
    assert isinstance(asked, replies.AskReply)
    octets = []
    for object_id, length in ((ReadableId.REQUEST, asked.length), (ReadableId.CERTIFICATE, 4096)):
        piece = caller.ask(requests.Read(object_id=object_id, offset=0, length=length))
        assert isinstance(piece, replies.ReadReply)
        octets.append(piece.octets)
    request, certificate = octets
    assert hashlib.sha256(request).digest() == asked.digest
    assert (len(certificate), hashlib.sha256(certificate).digest()) == (
        asked.certificate_length,
        asked.fingerprint,
    )
    return asked, request, x509.load_der_x509_certificate(certificate)


def tell(caller: Caller, hello: replies.HelloReply, answer: CarriedAnswer) -> int:
    octets = encode_answer(answer)
    text = answer_text(caller.session, device_nonce=hello.nonce, answer=octets)
    signature = FLOOR.identity.sign(text)
    return caller.rc(requests.Hear(answer=octets, signature=signature, station_chain=FLOOR.identity.chain))


def test_what_a_unit_asks_is_the_wires_own_request_signed_by_its_certificates_key(
    firmware: Path, tmp_path: Path
) -> None:
    with wired(new_board(firmware, tmp_path)) as wire:
        switch(wire, Offer())
        caller = Caller(wire, session=b"gateway!")
        hello = caller.hello()
        for time, kind in ((0, messages.StatusQuery), (2**33, messages.Renew)):
            asked, request, certificate = ask(caller, time=time)
            assert isinstance(messages.parse_request(request), kind)
            assert f"{certificate.serial_number:032x}" == f"{Offer().serial:032x}"
            text = recovery_text(fleet="acme", domain="prod", nonce=SERVER_NONCE.hex(), request=request)
            key = certificate.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(asked.signature, text, ec.ECDSA(hashes.SHA256()))
        renew = messages.parse_request(request)
        assert isinstance(renew, messages.Renew)
        assert (renew.attempt, renew.anchors) == (2, (hashlib.sha256(der(ROOT.certificate)).hexdigest(),))
        csr = x509.load_pem_x509_csr(renew.csr.encode())
        assert csr.is_signature_valid
        assert hello.state is LinkState.ACTIVE
        assert caller.hello().state is LinkState.KEYED


def test_a_key_is_given_up_only_when_the_server_says_so_of_this_very_key(
    firmware: Path, tmp_path: Path
) -> None:
    with wired(new_board(firmware, tmp_path)) as wire:
        switch(wire, Offer())
        caller = Caller(wire, session=b"gateway!")
        hello = caller.hello()
        _, first, _ = ask(caller, time=2**33)
        assert tell(caller, hello, DeadAnswer(key_hash=bytes(32), attempt_floor=9)) == 0
        assert caller.hello().state is LinkState.KEYED
        renew = messages.parse_request(first)
        assert isinstance(renew, messages.Renew)
        key = x509.load_pem_x509_csr(renew.csr.encode()).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        dead = DeadAnswer(key_hash=hashlib.sha256(spki).digest(), attempt_floor=9)
        assert tell(caller, hello, dead) == 0
        assert caller.hello().state is LinkState.ACTIVE
        _, second, _ = ask(caller, time=2**33)
        again = messages.parse_request(second)
        assert isinstance(again, messages.Renew)
        assert (again.attempt, again.csr != renew.csr) == (10, True)


def test_a_renewal_is_not_ended_by_a_commit(firmware: Path, tmp_path: Path) -> None:
    with wired(new_board(firmware, tmp_path)) as wire:
        switch(wire, Offer())
        caller = Caller(wire, session=b"gateway!")
        hello = caller.hello()
        _, request, _ = ask(caller, time=2**33)
        renew = messages.parse_request(request)
        assert isinstance(renew, messages.Renew)
        csr = x509.load_pem_x509_csr(renew.csr.encode()).public_bytes(Encoding.DER)
        offer = Offer(serial=0x41 << 120 | 8)
        package = offer.package(csr)
        caller.write({**package.objects, ObjectId.STATION_CHAIN: encode_certificates(offer.station.chain)})
        text = station_text(caller.session, device_nonce=hello.nonce, hashes=package.hashes)
        order = requests.Install(hashes=package.hashes, signature=offer.station.sign(text))
        assert caller.rc(order) == 0
        assert caller.rc(requests.Commit(fingerprint=package.fingerprint)) == Rc.STATE
        assert caller.rc(requests.Ident(device_id="d1")) == Rc.STATE
        assert tell(caller, hello, ConfirmedAnswer(serial=offer.serial.to_bytes(16))) == 0
        active = caller.hello()
        assert (active.state, active.fingerprint) == (LinkState.ACTIVE, package.fingerprint)


def test_the_flash_holds_no_key_that_was_given_up(firmware: Path, tmp_path: Path) -> None:
    board = new_board(firmware, tmp_path)
    with wired(board) as wire:
        install(wire, Offer())
        secrets = keys_in(board.flash.read_bytes())
        assert len(secrets) == 1
        caller = caller_of(wire)
        caller.hello()
        caller.csr("d2")
        after = keys_in(board.flash.read_bytes())
        assert len(after) == 1
        assert not after & secrets


def keys_in(flash: bytes) -> set[bytes]:
    """Return the keys in both halves of the record: what stands first in a slot."""
    slots = (flash.find(marker, at) for marker in (b"bac\x86", b"bpe\x83", b"bpe\x88") for at in HALVES)
    found = {slot for slot in slots if slot >= 0}
    return {flash[slot + 6 : slot + 38] for slot in found}
