"""Chains that another CA made for ours: each rule breaks one, and a good one passes."""

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca.imported import MOST_BYTES, ImportedChain, Wanted, judge_chain, read_chain
from fleet.ca.issuer import pem_bundle
from fleet.ca.requesting import authority_csr
from fleet.errors import BadInputError
from fleet.model import Purpose
from tests.company import Company, Shape

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
CSR = authority_csr(KEY, "acme prod device issuing CA 2", fleet="acme")
DAY = timedelta(days=1)
ISSUING = Shape()
MIDDLE = Shape(path_length=1)
ROOT = Shape(path_length=None)


@dataclass(frozen=True, kw_only=True)
class Bent:
    """A company that does one thing otherwise."""

    root: Shape = ROOT
    intermediate: Shape = MIDDLE
    issuing: Shape = ISSUING

    def judged(self, *, purpose: Purpose = Purpose.DEVICE) -> ImportedChain:
        company = Company(now=NOW, root=self.root, intermediate=self.intermediate)
        chain = company.chain_for(CSR, self.issuing)
        return judge_chain(chain, wanted(company, purpose=purpose))


def wanted(company: Company, *, purpose: Purpose = Purpose.DEVICE) -> Wanted:
    return Wanted(
        public_key=KEY.public_key(),
        purpose=purpose,
        suffix="prod.acme",
        anchors=(company.root.certificate,),
        now=NOW,
    )


def constraints(
    *, permitted: list[x509.GeneralName] | None = None, excluded: list[x509.GeneralName] | None = None
) -> tuple[x509.ExtensionType, ...]:
    return (x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded),)


def usage(*oids: x509.ObjectIdentifier) -> tuple[x509.ExtensionType, ...]:
    return (x509.ExtendedKeyUsage(list(oids)),)


EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
NAME = x509.Name.from_rfc4514_string("O=acme")
GOOD = {
    "plain": Bent(),
    "no path length": Bent(intermediate=Shape(path_length=None), issuing=Shape(path_length=None)),
    "a usage that allows ours": Bent(
        intermediate=replace(MIDDLE, others=usage(EMAIL, ExtendedKeyUsageOID.CLIENT_AUTH))
    ),
    "any usage": Bent(issuing=replace(ISSUING, others=usage(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))),
    "our names permitted": Bent(
        intermediate=replace(MIDDLE, others=constraints(permitted=[x509.DNSName("acme")]))
    ),
    "our very domain permitted": Bent(
        issuing=replace(ISSUING, others=constraints(permitted=[x509.DNSName("prod.acme")]))
    ),
    "others excluded": Bent(
        issuing=replace(ISSUING, others=constraints(excluded=[x509.DNSName("lab.acme")]))
    ),
    "addresses constrained": Bent(
        issuing=replace(ISSUING, others=constraints(permitted=[x509.RFC822Name("example.org")]))
    ),
}

BAD: dict[str, tuple[Bent, str]] = {
    "no CA": (Bent(issuing=Shape(ca=False)), "does not say that it is a CA"),
    "no constraints": (Bent(issuing=replace(ISSUING, without=(x509.BasicConstraints,))), "CA:TRUE"),
    "an intermediate that is no CA": (Bent(intermediate=Shape(ca=False)), "Example Devices does not say"),
    "an intermediate with none below": (Bent(intermediate=Shape(path_length=0)), "allows 0 CAs below it"),
    "a root with one below": (Bent(root=Shape(path_length=1)), "allows 1 CAs below it, and 2"),
    "no keyCertSign": (Bent(issuing=Shape(cert_sign=False)), "keyCertSign"),
    "no cRLSign": (Bent(issuing=Shape(crl_sign=False)), "cRLSign"),
    "no usage at all": (Bent(issuing=replace(ISSUING, without=(x509.KeyUsage,))), "keyCertSign"),
    "an intermediate that signs nothing": (
        Bent(intermediate=replace(MIDDLE, cert_sign=False)),
        "Example Devices must not sign",
    ),
    "expired": (Bent(issuing=replace(ISSUING, begins=-2 * DAY, ends=-DAY)), "expired on 2030-05-31"),
    "an intermediate that expired": (
        Bent(intermediate=replace(MIDDLE, begins=-2 * DAY, ends=timedelta())),
        "Example Devices expired",
    ),
    "a root that expired": (Bent(root=replace(ROOT, begins=-2 * DAY, ends=-DAY)), "Example Root expired"),
    "not yet valid": (Bent(issuing=replace(ISSUING, begins=DAY)), "not valid before 2030-06-02"),
    "another usage": (Bent(issuing=replace(ISSUING, others=usage(EMAIL))), "extendedKeyUsage"),
    "another usage above": (
        Bent(intermediate=replace(MIDDLE, others=usage(EMAIL))),
        "Example Devices is not for",
    ),
    "no key identifier": (
        Bent(issuing=replace(ISSUING, without=(x509.SubjectKeyIdentifier,))),
        "subjectKeyIdentifier",
    ),
    "other names permitted": (
        Bent(intermediate=replace(MIDDLE, others=constraints(permitted=[x509.DNSName("example.org")]))),
        "does not permit names below prod.acme",
    ),
    "names below ours permitted": (
        Bent(issuing=replace(ISSUING, others=constraints(permitted=[x509.DNSName("d1.prod.acme")]))),
        "does not permit",
    ),
    "a name that ends like ours": (
        Bent(issuing=replace(ISSUING, others=constraints(permitted=[x509.DNSName("me")]))),
        "does not permit",
    ),
    "directory names permitted": (
        Bent(issuing=replace(ISSUING, others=constraints(permitted=[x509.DirectoryName(NAME)]))),
        "does not permit",
    ),
    "our names excluded": (
        Bent(issuing=replace(ISSUING, others=constraints(excluded=[x509.DNSName("acme")]))),
        "excludes names below prod.acme",
    ),
    "too large": (
        Bent(issuing=replace(ISSUING, others=(x509.UnrecognizedExtension(EMAIL, bytes(9000)),))),
        "more than 8192 bytes",
    ),
}


@pytest.mark.parametrize("bent", GOOD.values(), ids=GOOD)
def test_a_good_chain_is_taken_in_its_order(bent: Bent) -> None:
    chain = bent.judged()
    chain.certificate.verify_directly_issued_by(chain.above[0])
    chain.above[0].verify_directly_issued_by(chain.root)
    assert chain.certificate.public_key() == KEY.public_key()


@pytest.mark.parametrize(("bent", "why"), BAD.values(), ids=BAD)
def test_what_breaks_a_rule_is_refused_with_the_rule(bent: Bent, why: str) -> None:
    with pytest.raises(BadInputError, match=why) as caught:
        bent.judged()
    assert caught.value.hint


def test_a_server_ca_is_judged_by_the_usage_of_servers() -> None:
    server = usage(ExtendedKeyUsageOID.SERVER_AUTH)
    Bent(issuing=replace(ISSUING, others=server)).judged(purpose=Purpose.SERVER)
    with pytest.raises(BadInputError, match="extendedKeyUsage"):
        Bent(issuing=replace(ISSUING, others=server)).judged()


def test_the_root_may_be_left_out_where_it_is_known() -> None:
    company = Company(now=NOW)
    chain = company.chain_for(CSR)
    assert judge_chain(chain[:-1], wanted(company)).root == company.root.certificate


def test_what_is_not_from_the_ca_up_to_the_root_is_refused() -> None:
    company, stranger = Company(now=NOW), Company(now=NOW)
    own, middle, root = company.chain_for(CSR)
    cases = {
        "is for the key of the request": [middle, root],
        "not in order": [root, middle, own],
        "comes first": [middle, own, root],
        "no root that is trusted here": [own],
        "is not trusted here": [*stranger.chain_for(CSR)],
        "did not sign": [own, stranger.intermediate.certificate, root],
        "nothing else in it": [own, middle, stranger.intermediate.certificate, root],
    }
    for why, chain in cases.items():
        with pytest.raises(BadInputError, match=why):
            judge_chain(chain, wanted(company))


def test_a_certificate_that_signs_itself_is_no_answer_to_a_request() -> None:
    company = Company(now=NOW)
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, NOW - DAY, NOW + DAY, [])
    itself = builder.sign(KEY, company.root.certificate.signature_hash_algorithm)
    with pytest.raises(BadInputError, match="not trusted here"):
        judge_chain([itself], wanted(company))
    with pytest.raises(BadInputError, match="a root of its own"):
        judge_chain([itself], replace(wanted(company), anchors=(itself,)))


def test_too_many_or_too_much_is_not_read() -> None:
    company = Company(now=NOW)
    with pytest.raises(BadInputError, match="5 certificates"):
        read_chain(pem_bundle([company.root.certificate] * 5))
    with pytest.raises(BadInputError, match=f"{MOST_BYTES} bytes"):
        read_chain("x" * (MOST_BYTES + 1))


def test_what_openssl_writes_around_a_certificate_is_passed_over() -> None:
    company = Company(now=NOW)
    text = f"subject=CN = Example Root\nissuer=\n{pem_bundle([company.root.certificate])}\n"
    assert read_chain(text) == (company.root.certificate,)


@given(text=st.text(alphabet="-BEGINCRTFAD \nMI=/+\x00\xe9", max_size=200))
def test_any_text_is_a_chain_or_bad_input(text: str) -> None:
    for candidate in (text, f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"):
        with contextlib.suppress(BadInputError):
            assert read_chain(candidate)
