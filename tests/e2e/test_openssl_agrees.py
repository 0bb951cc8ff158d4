"""OpenSSL as the relying party: it accepts what is good, for its purpose alone, and refuses the rest."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from fleet.ca.crl import make_crl
from fleet.ca.hierarchy import Authority
from fleet.ca.issuer import IssuedCertificate, pem_bundle
from fleet.ca.ocsp import Good, Revoked, Standing, Unknown, Validity
from fleet.ca.ocsp_request import read_request
from fleet.ca.signers import make_key
from fleet.core.profile import DEFAULT_PROFILES, device_applicant
from fleet.core.revocation import encode_entry
from fleet.core.serial import new_serial
from fleet.home import Home
from fleet.model import Purpose, RevocationReason
from tests.homes import STATUS_URL, FleetHome, make_home, utc_now

pytestmark = pytest.mark.needs("openssl")

IDENTITIES = [
    Identity(domain="prod", device_id="d1"),
    Identity(domain="prod", device_id="Line_3:0042"),
    Identity(domain="lab", device_id="a" * 64),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("fleet") / "home")


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


def device(authority: Authority, identity: Identity, *, number: int = 1) -> IssuedCertificate:
    issuer = authority.issuer(Purpose.DEVICE, identity.domain)
    now = utc_now()
    template = DEFAULT_PROFILES[Purpose.DEVICE].template(
        device_applicant(identity, fleet="acme"),
        make_key().public_key(),
        now=now,
        issuer=issuer.facts(STATUS_URL),
    )
    return issuer.issue(template, serial=new_serial(now=now, randomness=number.to_bytes(13, "big")))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `openssl verify` is asked."""

    certificate: Path
    root: Path
    purpose: str
    crls: Sequence[bytes] = ()
    at: datetime | None = None

    def run(self, folder: Path) -> subprocess.CompletedProcess[str]:
        arguments: list[str | Path] = ["verify", "-x509_strict", "-no-CApath", "-no-CAstore"]
        arguments += ["-purpose", self.purpose, "-CAfile", self.root, "-untrusted", self.certificate]
        if self.at is not None:
            arguments += ["-attime", str(int(self.at.timestamp()))]
        if self.crls:
            bundle = folder / "crls.pem"
            pems = [x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM) for crl in self.crls]
            bundle.write_bytes(b"".join(pems))
            arguments += ["-crl_check_all", "-CRLfile", bundle]
        return openssl(*arguments, self.certificate)


def written(folder: Path, authority: Authority, identity: Identity, issued: IssuedCertificate) -> Path:
    path = folder / "device.pem"
    path.write_text(issued.pem + authority.issuer(Purpose.DEVICE, identity.domain).chain_pem)
    return path


def own_certificates(home: Home) -> list[tuple[Path, Path, str]]:
    """Every certificate that `init` makes for a use: itself, its root, the purpose that it has."""
    bootstrap = home.authority("bootstrap").ca.certificate
    return [
        (home.server.certificate, home.server_trust, "sslserver"),
        (home.service.certificate, home.server_trust, "sslclient"),
        (home.canary.certificate, home.server_trust, "sslclient"),
        (home.operator("admin").certificate, home.server_trust, "sslclient"),
        (home.station("local").certificate, home.server_trust, "sslclient"),
        (home.station("local-lab").certificate, home.server_trust, "sslclient"),
        (home.public_claim("prod").certificate, bootstrap, "sslclient"),
        (home.public_claim("lab").certificate, bootstrap, "sslclient"),
    ]


def test_every_certificate_of_ours_is_good_for_its_purpose_and_no_other(
    made: FleetHome, tmp_path: Path
) -> None:
    for certificate, root, purpose in own_certificates(made.home):
        good = Verification(certificate=certificate, root=root, purpose=purpose).run(tmp_path)
        assert good.returncode == 0, (certificate, good.stderr)
        others = {"sslserver", "sslclient", "ocsphelper", "timestampsign"} - {purpose, "ocsphelper"}
        for other in others:
            bad = Verification(certificate=certificate, root=root, purpose=other).run(tmp_path)
            assert bad.returncode != 0, (certificate, other)


def test_signers_are_good_below_their_ca(made: FleetHome, tmp_path: Path) -> None:
    authority = made.authority
    bundle = tmp_path / "signer.pem"
    for responder in authority.responders:
        bundle.write_text(pem_bundle([responder.certificate, responder.issuer]))
        anchors = {root.anchor: root for root in authority.roots}
        issuer = next(one for one in authority.issuers if one.certificate == responder.issuer)
        root = made.home.authority(anchors[issuer.anchor].realm).ca.certificate
        checked = Verification(certificate=bundle, root=root, purpose="ocsphelper").run(tmp_path)
        assert checked.returncode == 0, checked.stderr
    bundle.write_text(authority.time_signer("prod").certificate_pem)
    root = made.home.trust_root("prod")
    checked = Verification(certificate=bundle, root=root, purpose="timestampsign").run(tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_every_authority_is_good_as_a_ca(made: FleetHome) -> None:
    for root in made.authority.roots:
        files = made.home.authority(root.realm)
        for folder in [files.folder, *(one for one in files.folder.iterdir() if one.is_dir())]:
            checked = openssl("verify", "-x509_strict", "-CAfile", files.ca.certificate, folder / "ca.crt")
            assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.device_id[:12])
def test_a_device_is_good_in_its_domain_with_the_lists_of_all_cas_and_nowhere_else(
    made: FleetHome, tmp_path: Path, identity: Identity
) -> None:
    authority = made.authority
    issuer = authority.issuer(Purpose.DEVICE, identity.domain)
    now = utc_now()
    crl = make_crl(issuer, (), number=1, this_update=now, next_update=now + timedelta(hours=1))
    path = written(tmp_path, authority, identity, device(authority, identity))
    crls = (crl, authority.root(identity.domain).crl)
    good = Verification(
        certificate=path, root=made.home.trust_root(identity.domain), purpose="sslclient", crls=crls
    )
    assert good.run(tmp_path).returncode == 0, good.run(tmp_path).stderr
    other = "lab" if identity.domain == "prod" else "prod"
    for elsewhere in (made.home.trust_root(other), made.home.server_trust):
        bad = Verification(certificate=path, root=elsewhere, purpose="sslclient").run(tmp_path)
        assert "unable to get local issuer certificate" in bad.stderr


def test_a_revoked_device_and_an_expired_one_are_refused_with_the_reason(
    made: FleetHome, tmp_path: Path
) -> None:
    authority, identity, now = made.authority, IDENTITIES[0], utc_now()
    issuer = authority.issuer(Purpose.DEVICE, "prod")
    gone, stays = (device(authority, identity, number=number) for number in (1, 2))
    entry = encode_entry(gone.serial, now, RevocationReason.KEY_COMPROMISE)
    crl = make_crl(issuer, [entry], number=2, this_update=now, next_update=now + timedelta(hours=1))
    crls = (crl, authority.root("prod").crl)
    root = made.home.trust_root("prod")

    def verified(issued: IssuedCertificate, at: datetime | None = None) -> str:
        path = written(tmp_path, authority, identity, issued)
        asked = Verification(certificate=path, root=root, purpose="sslclient", crls=() if at else crls, at=at)
        return asked.run(tmp_path).stderr

    assert "certificate revoked" in verified(gone)
    assert verified(stays) == ""
    assert "certificate has expired" in verified(stays, stays.not_after + timedelta(seconds=1))
    assert "not yet valid" in verified(stays, stays.not_before - timedelta(seconds=1))


def test_a_list_reads_back_with_its_number_entries_and_reasons(made: FleetHome, tmp_path: Path) -> None:
    issuer, now = made.authority.issuer(Purpose.DEVICE, "prod"), utc_now()
    entries = [encode_entry(f"41{index:030x}", now, reason) for index, reason in enumerate(RevocationReason)]
    path, ca = tmp_path / "list.crl", tmp_path / "ca.pem"
    path.write_bytes(make_crl(issuer, entries, number=4711, this_update=now, next_update=now + timedelta(1)))
    ca.write_text(issuer.chain_pem)
    read = openssl("crl", "-inform", "DER", "-in", path, "-noout", "-text", "-CAfile", ca)
    assert read.returncode == 0
    assert "verify OK" in read.stdout + read.stderr
    assert "X509v3 CRL Number: \n                4711" in read.stdout
    assert read.stdout.count("Serial Number: 41") == len(RevocationReason)
    for reason in ("Key Compromise", "Superseded", "Cessation Of Operation", "Privilege Withdrawn"):
        assert reason in read.stdout


class OneAnswer(HTTPServer):
    """Answers one OCSP request over HTTP, as the status listener does."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        super().__init__(("127.0.0.1", 0), OneHandler)
        self.timeout = 20


class OneHandler(BaseHTTPRequestHandler):
    server: OneAnswer

    def do_POST(self) -> None:  # the name that http.server calls
        answer = self.server.answer(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("digest", ["-sha1", "-sha256", "-sha384", "-sha512"])
@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (Good(), ": good"),
        (Unknown(), ": unknown"),
        (Revoked(at=utc_now(), reason=RevocationReason.KEY_COMPROMISE), "Reason: keyCompromise"),
        (Revoked(at=utc_now(), reason=RevocationReason.CERTIFICATE_HOLD), "Reason: certificateHold"),
        (Good(archive_cutoff=utc_now()), ": good"),
    ],
)
def test_ocsp_is_understood_with_its_nonce(
    made: FleetHome, tmp_path: Path, digest: str, standing: Standing, words: str
) -> None:
    authority = made.authority
    leaf, issuer = tmp_path / "leaf", tmp_path / "issuer"
    leaf.write_text(device(authority, IDENTITIES[0]).pem)
    issuer.write_text(authority.issuer(Purpose.DEVICE, "prod").chain_pem)

    def answer(body: bytes) -> bytes:
        asked, now = read_request(body), utc_now()
        assert asked.nonce
        responder = authority.asked(asked.questions[0])
        assert responder is not None
        validity = Validity(this_update=now, next_update=now + timedelta(minutes=5))
        return responder.answer(asked, [standing], validity=validity)

    with OneAnswer(answer) as server:
        command: list[str | Path] = ["openssl", "ocsp", digest, "-issuer", issuer, "-cert", leaf]
        command += ["-url", f"http://127.0.0.1:{server.server_port}"]
        command += ["-CAfile", made.home.trust_root("prod"), "-verify_other", issuer]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
            server.handle_request()
            told, talk = asking.communicate(timeout=20)
    assert asking.returncode == 0, talk
    assert "Response verify OK" in talk
    assert "WARNING" not in talk
    assert words in told


def test_sealed_keys_and_pkcs12_open_under_their_passphrase(made: FleetHome) -> None:
    home = made.home
    key = home.issuing("prod", "device-1").ca.key
    opened = openssl("pkey", "-in", key, "-passin", f"file:{home.issuing_passphrase}", "-noout", "-check")
    assert opened.returncode == 0, opened.stderr
    assert openssl("pkey", "-in", key, "-passin", "pass:wrong", "-noout").returncode != 0
    operator = home.operator("admin")
    read = openssl(
        "pkcs12", "-in", operator.p12, "-passin", f"file:{operator.p12_password}", "-noout", "-info"
    )
    assert read.returncode == 0, read.stderr
    assert "AES-256-CBC" in read.stderr
    assert "MAC: sha256" in read.stderr
