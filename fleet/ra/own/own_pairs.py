"""Which certificates of our own have their key in this home, and what each of them stands for.

It finds them as they are in force now, and says when each is due; nothing is changed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509

from fleet.ca.issuer import Issuer
from fleet.core.authority import ADMITTED
from fleet.core.profile import DEFAULT_PROFILES, OCSP_PROFILE, TIME_PROFILE, Profile
from fleet.core.unreadable import UNREADABLE
from fleet.home import KeyPairFiles
from fleet.model import Purpose
from fleet.pair_files import in_force
from fleet.ra.authority.beginning import CANARY_NAME, PUBLIC_BATCH, SERVICE_NAME
from fleet.ra.context import Context

_UNREADABLE: tuple[type[Exception], ...] = (OSError, *UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPair:
    """A certificate with its key in the home."""

    files: KeyPairFiles
    purpose: Purpose
    name: str
    """Its bearer's, where no record says it."""
    profile: Profile
    issuer: Issuer | None = None
    """Of a signer: the CA that it speaks for. Of all others the active one for their purpose."""
    retires: bool = True
    """The certificate before is superseded. Not where copies of it are in other hands."""

    def certificate(self) -> x509.Certificate | None:
        """Return the certificate in force, or None where it cannot be read."""
        try:
            return x509.load_pem_x509_certificate(in_force(self.files).certificate.read_bytes())
        except _UNREADABLE:
            return None

    @property
    def is_canary(self) -> bool:
        return (self.purpose, self.name) == (Purpose.SERVICE, CANARY_NAME)


def own_pairs(context: Context) -> Iterator[OwnPair]:
    """Yield all that the server renews by itself: not what a station renews, nor what is brought."""
    home = context.home
    if context.config.server.certificate is None:
        yield _pair(home.server, Purpose.SERVER, context.config.server.host)
    yield _pair(home.service, Purpose.SERVICE, SERVICE_NAME)
    yield _pair(home.canary, Purpose.SERVICE, CANARY_NAME)
    for record in context.authority.records:
        if record.is_root or record.state not in ADMITTED:
            continue
        files, issuer = home.authority_files(record.folder), context.authority.issuer_by_id(record.issuer)
        for pair, profile in ((files.ocsp, OCSP_PROFILE), (files.time, TIME_PROFILE)):
            if pair.certificate.exists():
                name = f"{record.folder.replace('/', ' ')} {profile.name}"
                yield OwnPair(files=pair, purpose=Purpose.SIGNER, name=name, profile=profile, issuer=issuer)
    for domain in context.config.domains:
        claim = home.public_claim(domain.name)
        if claim.certificate.exists():
            yield _pair(claim, Purpose.CLAIM, f"{domain.name}.{PUBLIC_BATCH}", retires=False)
    for certificate in sorted(home.operators.glob("*.crt")):
        operator = home.operator(certificate.stem)
        if operator.key.exists():
            pair = KeyPairFiles(certificate=operator.certificate, key=operator.key)
            yield _pair(pair, Purpose.OPERATOR, certificate.stem, retires=False)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a server's certificate holds, as text."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))


def _pair(files: KeyPairFiles, purpose: Purpose, name: str, *, retires: bool = True) -> OwnPair:
    return OwnPair(
        files=files, purpose=purpose, name=name, profile=DEFAULT_PROFILES[purpose], retires=retires
    )
