"""Whom a device obeys: the way to an anchor, the purpose, the signature; and no bytes that make it fail."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from device_agent.core.station_trust import KeyMismatchError, check_key, check_station
from device_agent.errors import UnacceptableAnswerError
from tests.factory_floor import NOW, MemoryUnit, der, issue_leaf, make_csr
from tests.pki import Authority, Pair

TEXT = b"FFL1 station\x00 and what follows"


@dataclass
class World:
    """A fleet root with its stations' issuing CA."""

    root: Authority = field(default_factory=lambda: Authority.root("acme fleet root"))
    name: str = "line-3.station.acme"

    def __post_init__(self) -> None:
        self.stations = self.root.issuing("acme station issuing CA")
        self.pair = self.stations.leaf("line-3", hosts=(self.name,))

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (der(self.pair.certificate), der(self.stations.certificate))

    @property
    def anchors(self) -> tuple[bytes, ...]:
        return (der(self.root.certificate),)

    def sign(self, text: bytes = TEXT, pair: Pair | None = None) -> bytes:
        return (pair or self.pair).key.sign(text, ec.ECDSA(hashes.SHA256()))


WORLD = World()
_UNUSED_BITS = len(WORLD.chain[0]) - len(WORLD.pair.certificate.signature) - 1


def check(
    chain: Sequence[bytes] = WORLD.chain,
    anchors: Sequence[bytes] = WORLD.anchors,
    *,
    signature: bytes = WORLD.sign(),
    signed: bytes = TEXT,
) -> str:
    return check_station(chain, anchors, signature=signature, signed=signed, now=NOW)


def test_a_station_under_the_anchor_is_believed() -> None:
    assert check() == "line-3"


def test_its_issuing_ca_may_be_the_anchor() -> None:
    assert check(WORLD.chain[:1], [der(WORLD.stations.certificate)]) == "line-3"


def test_unrelated_anchors_do_not_disturb() -> None:
    assert check(anchors=[der(World().root.certificate), *WORLD.anchors]) == "line-3"


@pytest.mark.parametrize(
    ("chain", "anchors"),
    [
        ([], WORLD.anchors),
        (WORLD.chain, []),
        (WORLD.chain[:1], WORLD.anchors),
        (WORLD.chain[::-1], WORLD.anchors),
        (WORLD.chain, World().anchors),
        ([WORLD.chain[0], World().chain[1]], WORLD.anchors),
        ([b"\x30\x00", WORLD.chain[1]], WORLD.anchors),
        (WORLD.chain, [b"nonsense"]),
    ],
    ids=["empty", "no anchor", "gap", "turned", "other root", "other issuer", "no certificate", "bad anchor"],
)
def test_a_chain_that_does_not_lead_there_is_not_believed(chain: list[bytes], anchors: list[bytes]) -> None:
    with pytest.raises(UnacceptableAnswerError):
        check(chain, anchors)


def test_a_leaf_cannot_issue_a_station() -> None:
    forger = Authority(key=WORLD.pair.key, certificate=WORLD.pair.certificate, above=WORLD.stations)
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = _signed_by(forger, public_key)
    with pytest.raises(UnacceptableAnswerError, match="no CA"):
        check([leaf, *WORLD.chain])


def _signed_by(authority: Authority, public_key: ec.EllipticCurvePublicKey) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(7)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(hours=1))
    )
    return der(builder.sign(authority.key, hashes.SHA256()))


def test_a_ca_below_the_issuing_ca_breaks_its_path_length() -> None:
    below = WORLD.stations.issuing("one too many")
    pair = below.leaf("line-3", hosts=("line-3.station.acme",))
    chain = [der(pair.certificate), der(below.certificate), der(WORLD.stations.certificate)]
    with pytest.raises(UnacceptableAnswerError, match="no CA for it"):
        check(chain, signature=WORLD.sign(pair=pair))


@pytest.mark.parametrize("ahead", [timedelta(days=-3), timedelta(days=3)])
def test_outside_its_dates_it_is_not_believed(ahead: timedelta) -> None:
    with pytest.raises(UnacceptableAnswerError, match="time"):
        check_station(WORLD.chain, WORLD.anchors, signature=WORLD.sign(), signed=TEXT, now=NOW + ahead)


@pytest.mark.parametrize(
    "name",
    [
        "line-3.operator.acme",
        "line-3.station",
        "station.acme",
        "a.line-3.station.acme",
        "x.station.AC_ME",
        "*.station.",
    ],
)
def test_another_purpose_is_no_station(name: str) -> None:
    world = World(name=name)
    with pytest.raises(UnacceptableAnswerError, match="not a station"):
        check(world.chain, world.anchors, signature=world.sign())


@pytest.mark.parametrize("hosts", [(), ("127.0.0.1",), ("a.station.acme", "b.station.acme")])
def test_a_station_has_one_name(hosts: tuple[str, ...]) -> None:
    pair = WORLD.stations.leaf("line-3", hosts=hosts)
    chain = [der(pair.certificate), WORLD.chain[1]]
    with pytest.raises(UnacceptableAnswerError, match="not a station"):
        check(chain, signature=WORLD.sign(pair=pair))


@pytest.mark.parametrize(
    "signature",
    [b"", b"\x30\x00", WORLD.sign(b"other"), WORLD.sign()[:-1]],
    ids=["none", "empty", "of other bytes", "cut"],
)
def test_a_wrong_signature_is_not_believed(signature: bytes) -> None:
    with pytest.raises(UnacceptableAnswerError, match="signature"):
        check(signature=signature)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, len(WORLD.chain[0]) - 1), st.integers(1, 255))
@example(_UNUSED_BITS, 1)
def test_no_change_in_what_was_signed_is_believed_or_makes_the_check_fail(at: int, by: int) -> None:
    changed = bytearray(WORLD.chain[0])
    changed[at] ^= by
    try:
        name = check([bytes(changed), WORLD.chain[1]])
    except UnacceptableAnswerError:
        return
    # Around the signature, BIT STRING may count zero bits at its end as unused (X.690 8.6.2).
    assert at == _UNUSED_BITS
    assert name == "line-3"


def _strange_certificates() -> list[bytes]:
    folder = "x509/custom"
    names = ("bad_country.pem", "unsupported_extension.pem", "san_other_name.pem", "invalid_version.pem")
    names += (
        "two_basic_constraints.pem",
        "ec_no_named_curve.pem",
        "negative_serial.pem",
        "nc_ip_invalid_length.pem",
    )
    found = []
    for name in names:
        with cryptography_vectors.open_vector_file(f"{folder}/{name}", "rb") as file:
            octets: bytes = file.read()
        try:
            found.append(der(x509.load_pem_x509_certificate(octets)))
        except (ValueError, x509.InvalidVersion):
            continue
    return found


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_strange_certificates_are_refused_and_nothing_else() -> None:
    strange = _strange_certificates()
    assert strange
    for octets in strange:
        for chain, anchors in (
            ([octets], [octets]),
            ([octets, *WORLD.chain], WORLD.anchors),
            (WORLD.chain, [octets]),
        ):
            with pytest.raises(UnacceptableAnswerError):
                check(chain, anchors)


def test_a_certificate_for_the_key_of_the_request_fits() -> None:
    unit = MemoryUnit()
    csr = unit.request("d1")
    assert unit.pending is not None
    check_key(der(issue_leaf(WORLD.stations, unit.pending.key.public_key(), "d1")), csr)


def test_a_certificate_for_another_key_does_not_fit() -> None:
    with pytest.raises(KeyMismatchError):
        check_key(WORLD.chain[0], MemoryUnit().request("d1"))


@pytest.mark.parametrize("csr", [b"", b"\x30\x00", make_csr(WORLD.pair.key, "x")[:-1]])
def test_a_request_that_cannot_be_read_is_told(csr: bytes) -> None:
    with pytest.raises(UnacceptableAnswerError):
        check_key(WORLD.chain[0], csr)
