"""What an operator hands in of another authority: taken if it is whole, refused with what is wrong if not."""

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.errors import BadInputError
from fleet.ra.adopted.foreign import is_listed_in, known_leaf, named_leaf, read_authorities, read_lists
from fleet.ra.adopted.foreign_list import MAX_LEAVES, ListedLeaf, read_list
from tests.adopted import OtherFleet, row, shown_serial
from tests.pki import Authority, pem_of, utc_now

OTHER = OtherFleet()
NOW = utc_now()


def test_authorities_are_read_from_the_root_down_in_any_order() -> None:
    text = (pem_of(OTHER.issuing.certificate) + pem_of(OTHER.root.certificate)).decode()

    found = read_authorities(text)

    assert found.certificates == (OTHER.root.certificate, OTHER.issuing.certificate)
    assert found.issuing == (OTHER.issuing.certificate,)
    assert found.root_of(OTHER.issuing.certificate) == OTHER.root.certificate


def test_a_root_that_signs_leaves_itself_is_its_own_issuing_ca() -> None:
    found = read_authorities(pem_of(OTHER.root.certificate).decode())

    assert found.issuing == (OTHER.root.certificate,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (pem_of(OTHER.issuing.certificate).decode(), "leads to no root"),
        (OTHER.authorities + pem_of(OTHER.device().certificate).decode(), "is no CA"),
        (
            OTHER.authorities + pem_of(Authority.root("x").issuing("y").certificate).decode(),
            "leads to no root",
        ),
        ("", "no certificates"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificates"),
    ],
    ids=["no root", "a leaf", "another's", "empty", "garbage"],
)
def test_authorities_that_are_not_whole_are_refused(text: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        read_authorities(text)


def crl(authority: Authority, **times: object) -> str:
    found = x509.load_der_x509_crl(authority.crl(**times))  # type: ignore[arg-type]  # passed on as they are
    return found.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no revocation list"),
        (crl(OTHER.root), "there is no revocation list"),
        (crl(OtherFleet().issuing), "there is no revocation list"),
        (crl(OTHER.issuing, next_update=NOW - timedelta(seconds=1)), "not in its time"),
        (crl(OTHER.issuing, this_update=NOW + timedelta(hours=1)), "not in its time"),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "cannot be read"),
    ],
    ids=["none", "the root's", "forged", "ended", "not yet", "garbage"],
)
def test_a_ca_without_a_good_revocation_list_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        read_lists(text, read_authorities(OTHER.authorities), now=utc_now())


def test_one_file_may_hold_authorities_and_lists() -> None:
    both = OTHER.authorities + OTHER.crls

    (found,) = read_lists(both, read_authorities(both), now=utc_now())

    assert found.issuer == OTHER.issuing.certificate.subject


def test_a_leaf_is_known_by_what_it_says_and_by_who_signed_it() -> None:
    pair = OTHER.device(serial=0x7F << 152 | 1)

    known = known_leaf(pair.certificate, read_authorities(OTHER.authorities))

    assert (known.issuer, known.serial, known.fingerprint) == (
        OTHER.issuing.issuer_id,
        shown_serial(pair),
        pair.fingerprint,
    )
    assert len(known.serial) == 40
    assert known.anchor == OTHER.root.certificate.fingerprint(hashes.SHA256()).hex()


def test_a_leaf_of_somebody_else_is_none_of_the_adopted_fleet() -> None:
    forged = OtherFleet().device()

    with pytest.raises(BadInputError, match="no leaf of the adopted CA"):
        known_leaf(forged.certificate, read_authorities(OTHER.authorities))


def test_a_leaf_that_names_no_signing_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    bare = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bare")]))
        .issuer_name(OTHER.issuing.certificate.subject)
        .public_key(key.public_key())
        .serial_number(9)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(OTHER.issuing.key, hashes.SHA256())
    )

    with pytest.raises(BadInputError, match="does not say which key signed it"):
        known_leaf(bare, read_authorities(OTHER.authorities))


def test_a_name_by_serial_and_fingerprint_counts_where_one_ca_can_have_signed_it() -> None:
    pair, authorities = OTHER.device(), read_authorities(OTHER.authorities)

    known = named_leaf(row("d1", pair, by="serial fingerprint"), authorities, now=NOW)

    assert known is not None
    assert (known.issuer, known.fingerprint, known.key_hash) == (
        OTHER.issuing.issuer_id,
        pair.fingerprint,
        "",
    )
    assert named_leaf(row("d1", pair, by="serial"), authorities, now=NOW) is None
    two = read_authorities(OTHER.authorities + pem_of(OTHER.root.issuing("second").certificate).decode())
    assert named_leaf(row("d1", pair, by="serial fingerprint"), two, now=NOW) is None


def test_what_its_own_ca_has_revoked_is_seen() -> None:
    other = OtherFleet()
    good, bad = other.device(), other.device()
    other.issuing.revoked.append(bad.certificate.serial_number)

    assert is_listed_in(other.crls, bad.certificate)
    assert not is_listed_in(other.crls, good.certificate)


def test_a_list_is_read_with_serials_and_fingerprints_as_other_tools_write_them() -> None:
    pair = OTHER.device()
    der = base64.b64encode(pair.certificate.public_bytes(Encoding.DER)).decode()
    spaced = ":".join(pair.fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    text = f"device_id,serial,fingerprint,certificate\nd1,0x5D01,,\nd2,5d:01,{spaced},\nd3,,,{der}\n"

    first, second, third = read_list(text)

    assert first.serial == second.serial == f"{0x5D01:032x}"
    assert second.fingerprint == pair.fingerprint
    assert third.certificate == pair.certificate


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs the columns"),
        ("serial\n1\n", "needs the columns"),
        ("device_id,colour\nd1,red\n", "needs the columns"),
        ("device_id,serial\n", "1 to"),
        ("device_id,serial\nd1,\n", "line 2 names no certificate"),
        ("device_id,serial\nd1,1,2\n", "line 2 names no certificate"),
        ("device_id,serial\nd/1,1\n", "line 2"),
        ("device_id,serial\nd1,xyz\n", "line 2: serial must be hex"),
        ("device_id,serial\nd1," + "f" * 41 + "\n", "line 2: serial must be hex"),
        ("device_id,fingerprint\nd1,abcd\n", "line 2: fingerprint"),
        ("device_id,certificate\nd1,AAAA\n", "line 2"),
        ('device_id,serial\n"d1,1\n', "no CSV"),
        ("device_id,serial\n" + "d1,1\n" * (MAX_LEAVES + 1), "1 to"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        read_list(text)


@given(st.text(max_size=200))
@example("device_id,serial\nd1,\x00\n")
@example("device_id,certificate\nd1,MA==\n")
def test_whatever_a_list_holds_it_is_read_or_refused(text: str) -> None:
    for start in ("", "device_id,serial,fingerprint,certificate\n"):
        try:
            found = read_list(start + text)
        except BadInputError:
            continue
        assert all(isinstance(one, ListedLeaf) for one in found)
