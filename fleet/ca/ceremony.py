"""What is done where a root's key is: issuing CAs are certified, and a root may be followed by the next.

It works on the folders of roots and on what a server asked for; no store, no network. Done again after a
cut, it goes on with the root that it had made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from device_agent.wire.secret import Secret
from device_agent.wire.trust import TrustBundle
from fleet.ca.founding import Founder
from fleet.ca.issuer import Issuer, pem_bundle
from fleet.ca.root_at_hand import IssuingOrder, open_root, sign_issuing
from fleet.ca.succession import Occasion, Roots, succeed
from fleet.ca.token_keys import TokenKeys
from fleet.core.goodkey import check_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError
from fleet.home import REFUSED_PINS, AuthorityFiles

_WORK_FACTOR = 14
"""scrypt's N is 2 to this power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commission:
    """What a server asks somebody to sign who has its root at hand."""

    fleet: str
    realm: str
    status_url: str
    root_pem: str
    """The root that it asks: another one in the folder is refused."""
    requests: tuple[tuple[str, IssuingOrder], ...]
    """Each by the name of its CA."""
    version: int | None = None
    """Of the trust bundle with both roots; None where no device is told."""
    beside_pem: str = ""
    links_pem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """The root at hand: its folder, what opens it, and where the next one is to be made, if it is to be.

    A key in a token is followed by one in that token, a file by a file under the same passphrase.
    """

    files: AuthorityFiles
    passphrase: Secret | None
    """None: the key is in a token, which asks for its PIN itself."""
    now: datetime
    randomness: Callable[[int], bytes]
    next_files: AuthorityFiles | None = None
    opened: Issuer | None = None
    """The root, where it was opened before anything was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRoot:
    """The next root, and what both have signed for it."""

    certificate_pem: str
    crl: bytes
    link_pem: str
    back_pem: str
    bundles: tuple[TrustBundle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """All that was signed."""

    certificates: tuple[tuple[str, str], ...]
    root: SignedRoot | None


def perform(commission: Commission, hand: Hand) -> Signed:
    """Sign what is asked for.

    Raises:
        NotFoundError: the root's key is not there.
        BadInputError: the passphrase is wrong, the folder holds another root, or a request is not right.
    """
    old = hand.opened or open_old(commission, hand)
    new = None if hand.next_files is None else _next_root(commission, hand, hand.next_files, like=old)
    signer = new or old
    certificates = tuple(
        (name, sign_issuing(signer, order, now=hand.now, randomness=hand.randomness).pem)
        for name, order in commission.requests
    )
    if new is None or hand.next_files is None:
        return Signed(certificates=certificates, root=None)
    return Signed(
        certificates=certificates,
        root=_handed_over(commission, hand, Roots(old=old, new=new), crl=hand.next_files.crl.read_bytes()),
    )


def open_old(commission: Commission, hand: Hand) -> Issuer:
    """Open the root that signs now.

    Raises:
        NotFoundError: its key is not there.
        BadInputError: the passphrase is wrong, or the folder holds another root.
    """
    old = open_root(hand.files, fleet=commission.fleet, passphrase=hand.passphrase)
    if pem_bundle([old.certificate]) != commission.root_pem:
        raise BadInputError(
            f"{hand.files.ca.certificate} is another root than the server's",
            hint=f"name the folder of the root of {commission.realm} with --root",
        )
    return old


def _next_root(commission: Commission, hand: Hand, files: AuthorityFiles, *, like: Issuer) -> Issuer:
    """Make the next root, or open the one that was made before a cut."""
    if not files.crl.exists():
        tokens = TokenKeys(hand.files.folder.parent / REFUSED_PINS)
        # Founder asks for a passphrase whatever it makes; no key is kept under it where they are in a token.
        passphrase = hand.passphrase or Secret("")
        founder = Founder(
            fleet=commission.fleet,
            now=hand.now,
            randomness=hand.randomness,
            status_url=commission.status_url,
            root_passphrase=passphrase,
            issuing_passphrase=passphrase,
            work_factor=_WORK_FACTOR,
            ca_keys={commission.realm: check_key(like.public_key)},
            token=tokens.place_of(hand.files.token),
            tokens=tokens,
        )
        issuer, _ = founder.root(files, realm=commission.realm)
        founder.root_crl(files, issuer)
    return open_root(files, fleet=commission.fleet, passphrase=hand.passphrase)


def _handed_over(commission: Commission, hand: Hand, roots: Roots, *, crl: bytes) -> SignedRoot:
    succession = succeed(
        roots,
        Occasion(
            fleet=commission.fleet,
            realm=commission.realm,
            version=commission.version or 1,
            beside=_certificates(commission.beside_pem),
            links=_certificates(commission.links_pem),
            now=hand.now,
            randomness=hand.randomness,
            status_url=commission.status_url,
        ),
    )
    told = commission.version is not None
    return SignedRoot(
        certificate_pem=pem_bundle([roots.new.certificate]),
        crl=crl,
        link_pem=succession.link.pem,
        back_pem=succession.back.pem,
        bundles=(succession.both, succession.new_alone) if told else (),
    )


def _certificates(pem: str) -> tuple[x509.Certificate, ...]:
    if not pem:
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(pem.encode()))
    except UNREADABLE as error:
        raise BadInputError("the server's anchors cannot be read", hint="fleet doctor") from error
