"""Reads certificate signing requests: a public key, a proof that its owner holds the private key, and names.

Nothing of a request ever goes into a certificate but the public key. The names are read for one purpose:
to refuse a request that asks to be somebody else.
"""

import base64
import binascii
import re
import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from device_agent.wire.identity import Identity, dns_name
from device_agent.wire.problems import ProblemCode
from fleet.core.goodkey import ALL_KEY_TYPES, CertifiedKey, KeyType, certified_key, check_key, key_hash
from fleet.core.names import is_free
from fleet.core.unreadable import UNREADABLE
from fleet.errors import RefusedError

MAX_CSR_BYTES = 64 * 1024

# RFC 7468 7: the label, and the older one that parsers may take as well.
_PEM = re.compile(
    rb"-----BEGIN (?P<label>(?:NEW )?CERTIFICATE REQUEST)-----\s(?P<body>[A-Za-z0-9+/=\s]*)"
    rb"-----END (?P=label)-----\s*"
)
_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, Warning)
_WEAK_HASHES = (hashes.MD5, hashes.SHA1)
_WITHOUT_HASH = frozenset(
    {
        SignatureAlgorithmOID.ED25519,
        SignatureAlgorithmOID.ML_DSA_44,
        SignatureAlgorithmOID.ML_DSA_65,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Csr:
    """What is left of a request once its proof of possession was verified."""

    public_key: CertifiedKey
    key_type: KeyType
    key_hash: str
    """Hex SHA-256 of the DER SubjectPublicKeyInfo."""
    common_names: tuple[str, ...]
    dns_names: tuple[str, ...]

    @property
    def rsa_bits(self) -> int:
        """The size of an RSA key, 0 of any other."""
        return self.public_key.key_size if isinstance(self.public_key, rsa.RSAPublicKey) else 0

    def require_identity(self, identity: Identity, *, fleet: str) -> None:
        """Refuse a request that names another identity than the applicant's; no name is fine.

        The common name must be the device id, and a dNSName of this fleet must be the applicant's own.
        Other names are not ours, never certified, and ignored.

        Raises:
            RefusedError: `bad-identity`.
        """
        own = dns_name(identity, fleet=fleet)
        others = [name for name in self.common_names if name != identity.device_id]
        others += [name for name in self.dns_names if not _is_free(name, own=own, fleet=fleet)]
        if others:
            raise RefusedError(
                f"the request names another identity than {identity.name}",
                hint="ask with the device id as common name, or with an empty subject",
                code=ProblemCode.BAD_IDENTITY,
            )


def read_csr(data: str | bytes, *, allowed: frozenset[KeyType] = ALL_KEY_TYPES) -> Csr:
    """Read a PKCS#10 request (RFC 2986), as one PEM block or as DER, at most 64 KiB.

    Raises:
        RefusedError: `too-large`, `bad-csr` or `bad-key`; never anything else, whatever the bytes are.
    """
    der = _der(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    # The library reads extensions and keys when they are asked for: every access stands in here.
    try:
        with warnings.catch_warnings():  # what it reads, but should not, is refused as well
            warnings.simplefilter("error")
            return _read(x509.load_der_x509_csr(der), allowed)
    except _UNREADABLE as error:
        raise _refusal("the request cannot be read as PKCS#10 (RFC 2986)") from error


def _read(csr: x509.CertificateSigningRequest, allowed: frozenset[KeyType]) -> Csr:
    _refuse_weak_signature(csr)
    # The key before the signature: verifying with an absurd key would cost us, not the asker.
    public_key = certified_key(csr.public_key())
    key_type = check_key(public_key, allowed=allowed)
    if not csr.is_signature_valid:
        # RFC 2986 4.2: without it, anybody could have somebody else's key certified.
        raise _refusal("the signature of the request does not prove possession of its key")
    extensions = csr.extensions
    _refuse_ca(extensions)
    return Csr(
        public_key=public_key,
        key_type=key_type,
        key_hash=key_hash(public_key),
        common_names=_common_names(csr.subject),
        dns_names=_dns_names(extensions),
    )


def csr_of_key(public_key: object) -> Csr:
    """Return what is left of a request that was read, and its key certified, before; it names nobody.

    Raises:
        RefusedError: `bad-key`.
    """
    key = certified_key(public_key)
    return Csr(public_key=key, key_type=check_key(key), key_hash=key_hash(key), common_names=(), dns_names=())


def _der(data: bytes) -> bytes:
    if len(data) > MAX_CSR_BYTES:
        raise RefusedError(
            f"the request is larger than {MAX_CSR_BYTES} bytes", code=ProblemCode.TOO_LARGE, hint="send less"
        )
    if not data.strip():
        raise _refusal("the request is empty")
    if not data.lstrip().startswith(b"-----"):
        return data
    block = _PEM.fullmatch(data.strip())
    if block is None:
        raise _refusal("the request must be exactly one PEM block CERTIFICATE REQUEST")
    try:
        return base64.b64decode(b"".join(block["body"].split()), validate=True)
    except binascii.Error as error:
        raise _refusal("the PEM block of the request is not base64") from error


def _refuse_weak_signature(csr: x509.CertificateSigningRequest) -> None:
    # RFC 9155: SHA-1 and MD5 signatures prove nothing any more.
    if csr.signature_algorithm_oid in _WITHOUT_HASH:
        return
    if isinstance(csr.signature_hash_algorithm, _WEAK_HASHES):
        raise _refusal("the request is signed with SHA-1 or MD5", hint="sign it with SHA-256")


def _refuse_ca(extensions: x509.Extensions) -> None:
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise _refusal("the request asks to become a CA", hint="ask without basicConstraints CA:TRUE")
        if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            raise _refusal(
                "the request asks for a CA's key usage", hint="ask without keyCertSign and cRLSign"
            )


def _common_names(subject: x509.Name) -> tuple[str, ...]:
    values = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(value.decode("latin-1") if isinstance(value, bytes) else value for value in values)


def _dns_names(extensions: x509.Extensions) -> tuple[str, ...]:
    return tuple(
        name.value
        for extension in extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
        for name in extension.value
        if isinstance(name, x509.DNSName)
    )


def _is_free(name: str, *, own: str, fleet: str) -> bool:
    plain = name.lower().rstrip(".")
    return plain == own or is_free(plain, own=own, fleet=fleet)


def _refusal(message: str, hint: str = "make a new request with the device's own tool") -> RefusedError:
    return RefusedError(message, hint=hint, code=ProblemCode.BAD_CSR)
