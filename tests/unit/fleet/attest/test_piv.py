"""Keys that a YubiKey attests: what is proved by it, and each attestation that proves nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.evidence import PivEvidence
from fleet.attest.chains import Anchors
from fleet.attest.piv import PivMaker, PivVerifier, read_attested
from fleet.attest.proof import Proven, Statement
from fleet.core.piv_rules import PinPolicy, PivRules, TouchPolicy
from fleet.core.things import Thing, ThingKind, certificate_thing, key_thing
from fleet.errors import RefusedError
from fleet.model import Assurance
from tests.yubikeys import BEGINS, ENDS, POLICY, PublicKey, Says, Signer, YubiKey, evidence_of

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
OTHER_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
YUBIKEY = YubiKey()
STRANGER = YubiKey()
AT = datetime(2026, 11, 26, tzinfo=UTC)
DAY = timedelta(days=1)


def thing_of(key: PublicKey) -> Thing:
    return key_thing(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def judged(
    evidence: PivEvidence,
    *,
    key: PublicKey = KEY,
    rules: PivRules = PivRules(),  # noqa: B008 - frozen
    anchors: tuple[x509.Certificate, ...] = (YUBIKEY.root.certificate,),
    at: datetime = AT,
) -> Proven:
    maker = PivMaker(anchors=Anchors(name="yubico", certificates=anchors), rules=rules)
    statement = Statement(fleet="acme", domain="prod", device_id="d1", key_hash=thing_of(key).value, at=at)
    return PivVerifier(evidence=evidence, makers=(maker,)).verify(statement)


@pytest.mark.parametrize("key", [KEY, RSA_KEY], ids=["p256", "rsa"])
def test_a_key_that_a_yubikey_attests_is_in_hardware_and_its_evidence_says_where(key: PublicKey) -> None:
    proven = judged(YUBIKEY.evidence(key), key=key)
    assert proven.assurance is Assurance.HARDWARE
    assert proven.evidence == (
        "YubiKey 29991856, firmware 5.7.1, slot 9a, PIN once, touch never, yubico vouches for it"
    )
    assert thing_of(key) in proven.things
    assert not proven.names
    assert not proven.may_register


def test_an_attestation_is_known_by_its_certificate_too() -> None:
    attestation = YUBIKEY.attests(KEY)
    proven = judged(evidence_of(attestation, YUBIKEY.f9.certificate))
    assert certificate_thing(attestation) in proven.things
    assert {thing.kind for thing in proven.things} == {ThingKind.KEY, ThingKind.CERTIFICATE}


def test_a_yubikey_that_keeps_its_serial_number_to_itself_is_taken() -> None:
    proven = judged(YUBIKEY.evidence(KEY, Says(serial=None)))
    assert "without a serial number" in proven.evidence
    assert not proven.tells_apart
    assert judged(YUBIKEY.evidence(KEY)).tells_apart


def test_a_maker_may_have_cas_between_its_root_and_its_yubikeys() -> None:
    between = YUBIKEY.root.authority("Yubico Attestation Intermediate", path_length=1)
    f9 = between.authority("Yubico PIV Attestation B 1")
    chain = evidence_of(YUBIKEY.attests(KEY, by=f9), f9.certificate, between.certificate)
    assert judged(chain).assurance is Assurance.HARDWARE
    below = evidence_of(YUBIKEY.attests(KEY, by=f9), f9.certificate)
    assert judged(below, anchors=(between.certificate,)).assurance is Assurance.HARDWARE


@pytest.mark.parametrize(
    ("says", "rules"),
    [
        (Says(policy=bytes((3, 1))), PivRules(pin=frozenset({PinPolicy.ALWAYS}))),
        (Says(policy=bytes((2, 3))), PivRules(touch=frozenset({TouchPolicy.CACHED}))),
        (Says(firmware=bytes((4, 3, 4))), PivRules(minimum_firmware=(4, 3, 4))),
        (Says(slot="95"), PivRules(slots=frozenset({"95"}))),
        (Says(form=bytes((0x81,))), PivRules()),
        (Says(form=None), PivRules()),
    ],
)
def test_a_domain_says_what_is_enough(says: Says, rules: PivRules) -> None:
    assert judged(YUBIKEY.evidence(KEY, says), rules=rules).assurance is Assurance.HARDWARE


def between(**about: object) -> PivEvidence:
    """Return evidence with one CA more in it, which is not what it should be."""
    wrong = YUBIKEY.root.authority("Intermediate", **about)  # type: ignore[arg-type]  # of `authority`
    f9 = wrong.authority("Yubico PIV Attestation")
    return evidence_of(YUBIKEY.attests(KEY, by=f9), f9.certificate, wrong.certificate)


def no_ca() -> PivEvidence:
    f9 = YUBIKEY.root.authority("Yubico PIV Attestation", ca=False)
    return evidence_of(YUBIKEY.attests(KEY, by=f9), f9.certificate)


def self_made() -> PivEvidence:
    """The holder's own key signs, under the name of the YubiKey's."""
    thief = Signer(key=ec.generate_private_key(ec.SECP256R1()), certificate=YUBIKEY.f9.certificate)
    return evidence_of(YUBIKEY.attests(KEY, by=thief), YUBIKEY.f9.certificate)


def twice_policed() -> PivEvidence:
    fields = YUBIKEY.attests(KEY, Says(policy=None))
    builder = x509.CertificateBuilder(
        fields.issuer, fields.subject, KEY, fields.serial_number, BEGINS, ENDS
    ).add_extension(x509.UnrecognizedExtension(POLICY, b"\x01\x01\x01"), critical=False)
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    return evidence_of(builder.sign(YUBIKEY.f9.key, hashes.SHA256()), YUBIKEY.f9.certificate)


SAID_WRONG: dict[str, tuple[Says, str]] = {
    "no firmware": (Says(firmware=None), "says no firmware"),
    "a firmware of two numbers": (Says(firmware=b"\x05\x07"), "wrong length"),
    "an old firmware": (Says(firmware=bytes((4, 3, 4))), "firmware is 4.3.4, and 4.3.5 is the least"),
    "no policy": (Says(policy=None), "no policy of its key"),
    "a PIN at each signature": (Says(policy=bytes((3, 1))), "PIN policy is always"),
    "a fingerprint": (Says(policy=bytes((4, 1))), "PIN policy is match-once"),
    "an unknown PIN policy": (Says(policy=bytes((0, 1))), "nobody knows the meaning"),
    "a touch each time": (Says(policy=bytes((2, 2))), "touch policy is always"),
    "a touch now and then": (Says(policy=bytes((2, 3))), "touch policy is cached"),
    "an unknown touch policy": (Says(policy=bytes((2, 9))), "nobody knows the meaning"),
    "an unknown form": (Says(form=bytes((0x0C,))), "nobody knows the meaning"),
    "a form of two octets": (Says(form=b"\x01\x01"), "wrong length"),
    "a serial number that is none": (Says(serial=b"\x04\x01\x01"), "serial number"),
    "a serial number cut off": (Says(serial=b"\x02\x04\x01"), "serial number"),
    "slot f9 itself": (Says(slot="f9"), "no slot"),
    "a slot that is none": (Says(slot="96"), "no slot"),
    "more than a slot": (Says(slot="9a\n"), "no slot"),
}


@pytest.mark.parametrize("case", SAID_WRONG)
def test_an_attestation_of_a_key_that_is_not_enough_is_refused(case: str) -> None:
    says, why = SAID_WRONG[case]
    with pytest.raises(RefusedError, match=why):
        judged(YUBIKEY.evidence(KEY, says))


def test_a_slot_that_a_domain_does_not_name_is_refused() -> None:
    with pytest.raises(RefusedError, match="in slot 9e, and 9a, 9c are allowed"):
        judged(YUBIKEY.evidence(KEY, Says(slot="9e")), rules=PivRules(slots=frozenset({"9a", "9c"})))


BAD_CHAINS: dict[str, Callable[[], PivEvidence]] = {
    "of another maker": lambda: STRANGER.evidence(KEY),
    "signed by the holder": self_made,
    "without the key of the YubiKey": lambda: evidence_of(YUBIKEY.attests(KEY)),
    "by another YubiKey's key": lambda: evidence_of(
        YUBIKEY.attests(KEY), YubiKey(root=YUBIKEY.root).f9.certificate
    ),
    "in the wrong order": lambda: evidence_of(
        YUBIKEY.attests(KEY), YUBIKEY.root.certificate, YUBIKEY.f9.certificate
    ),
    "by what is no CA": no_ca,
    "longer than its CA allows": lambda: between(path_length=0),
    "with a CA that has ended": lambda: between(path_length=1, ends=BEGINS + DAY),
    "with what is no CA in it": lambda: between(ca=False),
    "that is the maker's own": lambda: evidence_of(YUBIKEY.root.certificate),
    "a CA's instead of a key's": lambda: evidence_of(YUBIKEY.f9.certificate),
}


@pytest.mark.parametrize("case", BAD_CHAINS)
def test_a_bad_chain_is_refused(case: str) -> None:
    with pytest.raises(RefusedError):
        judged(BAD_CHAINS[case]())


@pytest.mark.parametrize("at", [BEGINS - DAY, ENDS + DAY], ids=["before", "after"])
def test_a_chain_out_of_its_time_is_refused(at: datetime) -> None:
    with pytest.raises(RefusedError, match="vouches"):
        judged(YUBIKEY.evidence(KEY), at=at)


def test_an_attestation_of_another_key_is_refused() -> None:
    with pytest.raises(RefusedError, match="not the key of the request"):
        judged(YUBIKEY.evidence(OTHER_KEY))


def test_a_domain_that_believes_nobody_refuses() -> None:
    with pytest.raises(RefusedError, match="vouches"):
        judged(YUBIKEY.evidence(KEY), anchors=())


def test_a_policy_that_is_longer_than_it_may_be_is_refused() -> None:
    with pytest.raises(RefusedError, match="wrong length"):
        judged(twice_policed())


@given(certificate=st.text(max_size=80), chain=st.none() | st.text(max_size=80))
def test_what_is_no_certificate_is_refused(certificate: str, chain: str | None) -> None:
    with pytest.raises(RefusedError):
        judged(PivEvidence(certificate=certificate, chain=chain))


@given(
    says=st.builds(
        Says,
        **{name: st.none() | st.binary(max_size=12) for name in ("firmware", "serial", "policy", "form")},
    )
)
def test_whatever_an_attestation_says_is_read_or_refused(says: Says) -> None:
    try:
        found = read_attested(YUBIKEY.attests(KEY, says))
    except RefusedError:
        return
    assert says.firmware == bytes(found.firmware)
    assert says.policy == bytes((found.pin, found.touch))
