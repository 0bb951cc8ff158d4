"""P-256 keys inside a TPM 2.0: made there, wrapped there, of use there alone; and the TPM's word for them.

A file holds each key as the TPM has wrapped it, which no other TPM can load. TLS uses the key through
OpenSSL, as it does a token's.
"""

import hashlib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import make_folder, remove_file, temporary_of, write_file
from device_agent.keys import openssl_provider
from device_agent.keys.private_file import read_private
from device_agent.keys.tls_key import Scheme
from device_agent.keys.tpm_commands import ENDORSEMENT, OWNER, Loaded, Tpm
from device_agent.keys.tpm_link import TpmPlace, opened
from device_agent.keys.tpm_templates import ATTESTATION, DEVICE_KEY, EK_ECC, EK_RSA, STORAGE
from device_agent.wire.evidence import TpmEvidence, TpmIdentity
from device_agent.wire.proofs import tpm_qualifying_data
from device_agent.wire.replies import Challenge

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_FILE = re.compile(r"\.?([a-z0-9][a-z0-9-]{0,63})\.tpm(?:\.new)?", re.ASCII)
_MOST = 4096
_ORDER_OCTETS = 32
_POINT_OCTETS = 2 * (2 + _ORDER_OCTETS)
_EK_PLACES = ((0x01C0000A, EK_ECC), (0x01C00002, EK_RSA))
"""Where vendors put their certificates (EK Credential Profile 2.2.1.4), the faster key first."""


class TpmSigner:
    """One key in a TPM."""

    __slots__ = ("_blob", "_name", "_place", "_point")

    def __init__(self, name: str, *, blob: tuple[bytes, bytes], place: TpmPlace) -> None:
        self._name, self._blob, self._place = name, blob, place
        self._point = _point(blob[1])

    def __repr__(self) -> str:
        return f"TpmSigner({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def public_key_der(self) -> bytes:
        return self._point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._point

    def sign(self, message: bytes) -> bytes:
        return self.sign_digest(hashlib.sha256(message).digest(), Scheme.ECDSA)

    def sign_digest(self, digest: bytes, scheme: Scheme) -> bytes:
        """Sign a digest of any length: ECDSA takes its leftmost bits (FIPS 186-5 6.4.1)."""
        del scheme  # a key on P-256 has one
        with opened(self._place) as link, self.loaded(Tpm(link)) as key:
            r, s = Tpm(link).sign(key, digest[:_ORDER_OCTETS].rjust(_ORDER_OCTETS, b"\0"))
        return encode_dss_signature(r, s)

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> None:
        # OpenSSL tells no reason when a handshake's signature fails; here the TPM can say it itself.
        self.sign(b"")
        openssl_provider.arm(context, self, chain_pem=chain_pem)

    @contextmanager
    def loaded(self, tpm: Tpm) -> Iterator[Loaded]:
        """Load the key; raises `KeyStoreError`."""
        private, public = self._blob
        with tpm.primary(OWNER, STORAGE) as parent, tpm.loaded(parent, private=private, public=public) as key:
            yield key


class TpmKeyStore:
    """The keys of one folder, as one TPM has wrapped them."""

    def __init__(self, place: TpmPlace, folder: Path) -> None:
        self._place, self._folder = place, folder

    def create(self, name: str) -> TpmSigner:
        path = self._path(name)
        if path.exists():
            raise KeyStoreError(f"there is a key {name} already", hint="device-agent doctor")
        with opened(self._place) as link, Tpm(link).primary(OWNER, STORAGE) as parent:
            blob = Tpm(link).create(parent, DEVICE_KEY)
        try:
            make_folder(self._folder)
            write_file(path, b"".join(blob))
        except StateError as error:
            raise KeyStoreError(f"the new key cannot be kept: {error}", hint=error.hint) from error
        return TpmSigner(name, blob=blob, place=self._place)

    def open(self, name: str) -> TpmSigner:
        return TpmSigner(name, blob=_parts(read_private(self._path(name), most=_MOST)), place=self._place)

    def destroy(self, name: str) -> None:
        """Remove the file; the TPM itself keeps nothing of a key."""
        path = self._path(name)
        try:
            remove_file(temporary_of(path))
            remove_file(path)
        except StateError as error:
            raise KeyStoreError(f"the key {name} cannot be destroyed: {error}", hint=error.hint) from error

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist, and those that a power cut left half made."""
        if not self._folder.is_dir():
            return ()
        found = (_FILE.fullmatch(path.name) for path in self._folder.iterdir())
        return tuple(sorted({match[1] for match in found if match}))

    def reference(self, name: str) -> str:
        """Return where the wrapped key is: no file that other programs could read a key from."""
        return f"tpm:{self._path(name).absolute()}"

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise KeyStoreError("a key is named by a-z, 0-9 and hyphens")
        return self._folder / f"{name}.tpm"


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmAttestor:
    """Proves that a key is in this TPM; keys of `store` only."""

    place: TpmPlace
    store: TpmKeyStore

    def identity(self) -> TpmIdentity:
        """Return which TPM this is; raises `KeyStoreError`."""
        with opened(self.place) as link:
            tpm = Tpm(link)
            certificate, template = _endorsement(tpm)
            with tpm.primary(ENDORSEMENT, template) as ek, tpm.primary(ENDORSEMENT, ATTESTATION) as ak:
                return TpmIdentity(ek_public=ek.public, ek_certificate=certificate, ak_public=ak.public)

    def answer(self, challenge: Challenge, *, device_id: str, key: str, key_hash: str) -> TpmEvidence:
        """Open the challenge, and have the TPM certify a key; raises `KeyStoreError`."""
        del key_hash  # the TPM names the key itself in what it signs
        if challenge.credential is None or challenge.secret is None:
            raise KeyStoreError("the server's challenge holds nothing for a TPM")
        identity, signer = self.identity(), self.store.open(key)
        with opened(self.place) as link:
            tpm = Tpm(link)
            _, template = _endorsement(tpm)
            with tpm.primary(ENDORSEMENT, ATTESTATION) as ak:
                with tpm.primary(ENDORSEMENT, template) as ek:
                    secret = tpm.activate(ak, ek, credential=challenge.credential, secret=challenge.secret)
                wanted = tpm_qualifying_data(
                    fleet=challenge.fleet, domain=challenge.domain, device_id=device_id, nonce=challenge.nonce
                )
                with signer.loaded(tpm) as loaded:
                    attest, signature = tpm.certify(loaded, by=ak, qualifying_data=wanted)
                    public = loaded.public
        return TpmEvidence(
            tpm=identity,
            nonce=challenge.nonce,
            secret=secret,
            key_public=public,
            attest=attest,
            signature=signature,
        )


def _endorsement(tpm: Tpm) -> tuple[str | None, bytes]:
    """Return the vendor's certificate, and the template of its key."""
    for index, template in _EK_PLACES:
        content = tpm.nv(index)
        if content and (certificate := _certificate(content)) is not None:
            return certificate.public_bytes(Encoding.PEM).decode(), template
    return None, EK_ECC


def _certificate(content: bytes) -> x509.Certificate | None:
    """Return the certificate at the start of a place that may be longer."""
    length = int.from_bytes(content[2:4]) + 4 if content[:2] == b"\x30\x82" else 0
    try:
        return x509.load_der_x509_certificate(content[:length])
    except ValueError:
        return None


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """Return TPM2B_PRIVATE and TPM2B_PUBLIC; raises `KeyStoreError`."""
    cut = 2 + int.from_bytes(content[:2])
    private, public = content[:cut], content[cut:]
    if len(private) != cut or len(public) != 2 + int.from_bytes(public[:2]):
        raise KeyStoreError("the file of a key is damaged", hint="restore the state folder")
    return private, public


def _point(public: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key at the end of a TPM2B_PUBLIC on P-256."""
    x, y = public[-_POINT_OCTETS:][2:34], public[-_POINT_OCTETS:][36:]
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
        return numbers.public_key()
    except ValueError as error:
        raise KeyStoreError("the TPM's public key is no point of P-256") from error
