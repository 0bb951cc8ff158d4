"""A server in memory for tests of the agent: the server's real core, certificates of a test fleet.

It keeps one device, has no store, and forgets nothing; what the product's server does around its core
(limits, audit, listeners) is not here.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.channels.memory import Heard
from device_agent.core.events import Route
from device_agent.ports import OperationalLogin
from device_agent.wire import replies
from device_agent.wire import requests as wire
from device_agent.wire.identity import Identity, dns_name
from device_agent.wire.problems import ProblemCode
from fleet.core import events, lifecycle
from fleet.core.lineage import certificate_of
from fleet.model import Certificate, CertificateState, Device
from tests.pki import Authority, Pki, pem_of

CODE = "ABCD-EFGH-JKMN-PQRS"


class Provisioner:
    """One fleet, one device."""

    def __init__(self, device_id: str = "d1", *, domain: str = "prod", fleet: str = "acme") -> None:
        self.pki = _pki(fleet, domain)
        self.identity = Identity(domain=domain, device_id=device_id)
        self.device = lifecycle.decide(Device(identity=self.identity), events.Grant(code_id="c1")).device
        self.pems: dict[str, str] = {}
        self.lifetime = timedelta(days=90)
        self.renew_after = datetime.now(UTC).replace(microsecond=0) + timedelta(days=60)
        self.recovery: replies.HttpsAddress | None = replies.HttpsAddress(host="localhost", port=8443)
        self.codes = {CODE: "c1"}
        """Codes in clear, and their ids."""
        self.stamp = 0
        self.broker = replies.BrokerAddress(host="localhost", port=8883, name=self.identity.name)
        self.seen: list[tuple[str, bytes]] = []
        """What came on other topics than those of requests."""
        self._next_serial = 0x40 << 120

    @property
    def issuer(self) -> Authority:
        return self.pki.devices[self.identity.domain]

    @property
    def trust_pem(self) -> str:
        return pem_of(self.pki.roots["fleet"].certificate).decode()

    @property
    def live(self) -> frozenset[str]:
        """Serials that a broker would let in."""
        return lifecycle.admitted(self.device)

    def hand_out(self, code: str) -> None:
        """Give out another code, as an operator does."""
        code_id = f"c{len(self.codes) + 1}"
        self.codes[code] = code_id
        self.act(events.Grant(code_id=code_id))

    def act(self, act: events.Act | events.Report) -> None:
        """Do what an operator, a broker or a clock does."""
        self.device = lifecycle.decide(self.device, act).device

    def admits(self, login: OperationalLogin) -> bool:
        """Judge a handshake, and tell the core of it as a broker's events would."""
        self.stamp += 1
        if login.serial in self.live:
            self.act(events.Connected(serial=login.serial, stamp=self.stamp))
            return True
        self.act(events.Refused(serial=login.serial, stamp=self.stamp))
        return False

    def answer(self, heard: Heard, request: wire.Request) -> replies.Reply:
        """Answer one request."""
        match request:
            case wire.StatusQuery():
                return self._status(heard, request)
            case wire.TimeQuery() | wire.Attest():
                return replies.Problem.of(request.id, ProblemCode.UNSUPPORTED_TYPE, "not here")
            case wire.Enroll():
                code_id = self.codes.get(request.proof.code.reveal() if request.proof.code else "")
                if code_id is None:
                    return replies.Problem.of(request.id, ProblemCode.CODE_INVALID, "no such code")
                asked: events.Request = events.Enroll(code_id=code_id, key_hash=_key_hash(request.csr))
            case wire.Renew():
                via = events.Via.RECOVERY if heard.route is Route.RECOVERY else events.Via.ADMITTED
                asked = events.Renew(
                    parent=heard.serial,
                    key_hash=_key_hash(request.csr),
                    attempt=request.attempt,
                    via=via,
                    stamp=self.stamp,
                )
            case wire.Confirm():
                asked = events.Confirm(serial=heard.serial)
            case wire.Done():
                asked = events.Done(serial=heard.serial, stamp=self.stamp)
        return self._judge(request, asked)

    def sign(self, csr_pem: str, serial: str) -> str:
        """Return the leaf for a request, PEM."""
        return pem_of(
            leaf_for(csr_pem, self.issuer, self.identity, serial=serial, lifetime=self.lifetime)
        ).decode()

    def issued(self, message_id: str, certificate: Certificate) -> replies.Issued:
        """Return the answer that delivers a certificate."""
        root = self.pki.roots[self.identity.domain]
        return replies.Issued(
            id=message_id,
            serial=certificate.serial,
            certificate=self.pems[certificate.serial],
            chain=pem_of(self.issuer.certificate).decode(),
            trust=pem_of(root.certificate).decode(),
            attempt_floor=certificate.attempt,
            renew_after=self.renew_after,
            broker=self.broker,
            recovery=self.recovery,
        )

    def _judge(self, request: wire.Request, asked: events.Request) -> replies.Reply:
        decision = lifecycle.decide(self.device, asked)
        self.device, verdict = decision.device, decision.verdict
        if isinstance(verdict, events.Issue) and isinstance(request, wire.Enroll | wire.Renew):
            verdict = self._issue(request, asked, verdict)
        match verdict:
            case events.Issued(serial=serial) | events.Replay(serial=serial):
                certificate = certificate_of(self.device, serial)
                assert certificate is not None
                return self.issued(request.id, certificate)
            case events.Confirmed(serial=serial):
                return replies.Confirmed(id=request.id, serial=serial)
            case events.DoneAck(serial=serial):
                return replies.DoneAck(id=request.id, serial=serial)
            case events.Dead():
                return replies.Dead(
                    id=request.id, key_hash=verdict.key_hash, attempt_floor=verdict.attempt_floor
                )
            case events.Nothing():
                return replies.Problem.of(request.id, verdict.code, verdict.reason)
            case _:
                raise AssertionError(verdict)

    def _issue(
        self, request: wire.Enroll | wire.Renew, asked: events.Request, issue: events.Issue
    ) -> events.Verdict:
        assert isinstance(asked, events.Enroll | events.Renew)
        self._next_serial += 1
        serial = f"{self._next_serial:032x}"
        anchor = self.pki.roots[self.identity.domain].certificate.fingerprint(hashes.SHA256()).hex()
        self.device = lifecycle.intend(self.device, issue, serial=serial, anchor=anchor)
        self.pems[serial] = self.sign(request.csr, serial)
        decision = lifecycle.signed(self.device, asked, serial=serial)
        self.device = decision.device
        return decision.verdict

    def _status(self, heard: Heard, request: wire.StatusQuery) -> replies.Reply:
        state = lifecycle.reported(self.device, heard.serial)
        if state is None:
            return replies.Problem.of(request.id, ProblemCode.UNKNOWN_DEVICE, "never seen")
        return replies.Status(id=request.id, serial=heard.serial, state=state, renew_after=self.renew_after)

    def states(self) -> dict[str, CertificateState]:
        """Return each certificate's state."""
        return {found.serial: found.state for found in self.device.certificates}

    def expire(self, serial: str) -> None:
        """Let a certificate's time pass."""
        self.act(events.Expired(serial=serial))

    def forget_codes(self) -> None:
        """Close what could admit another key."""
        self.device = replace(self.device, codes=())


def leaf_for(
    csr_pem: str,
    issuer: Authority,
    identity: Identity,
    *,
    serial: str,
    fleet: str = "acme",
    lifetime: timedelta = timedelta(days=90),
    not_before: datetime | None = None,
    is_ca: bool = False,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    common_name: str | None = None,
    alternative: str | None = None,
    key: ec.EllipticCurvePublicKey | None = None,
    extra: x509.ExtensionType | None = None,
) -> x509.Certificate:
    """Return a leaf as the product's profile has it, or one that is wrong in the way that is asked for."""
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    assert csr.is_signature_valid
    begin = not_before or datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    name = x509.NameAttribute(NameOID.COMMON_NAME, common_name or identity.device_id)
    names = [x509.DNSName(alternative or dns_name(identity, fleet=fleet))]
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    public_key = key or csr.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([name]))
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(int(serial, 16))
        .not_valid_before(begin)
        .not_valid_after(begin + lifetime)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(issuer.key, hashes.SHA256())


@cache
def _pki(fleet: str, domain: str) -> Pki:
    return Pki(fleet=fleet, domains=(domain,))


def _key_hash(csr_pem: str) -> str:
    public_key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()
