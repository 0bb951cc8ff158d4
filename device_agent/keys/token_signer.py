"""One key in a token: signs there, and arms TLS; the key itself is never anywhere else."""

import hashlib
import ssl

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.keys import token_kinds
from device_agent.keys.cryptoki import Session, Template
from device_agent.keys.sidecar import Sidecar
from device_agent.keys.tls_key import PublicKey, Scheme
from device_agent.keys.token_access import TokenAccess, one
from device_agent.keys.token_tls import Armed


class TokenSigner:
    """Made by a key store that has found the key."""

    __slots__ = ("_access", "_name", "_public_key", "_reference", "_wanted")

    def __init__(
        self, name: str, *, public_key: PublicKey, access: TokenAccess, wanted: Template, reference: str
    ) -> None:
        """`wanted` is what the private object is found by, `reference` its URI (RFC 7512)."""
        self._name, self._public_key, self._access = name, public_key, access
        self._wanted, self._reference = wanted, reference

    def __repr__(self) -> str:
        return f"TokenSigner({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def public_key_der(self) -> bytes:
        return self._public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        is_rsa = isinstance(self._public_key, rsa.RSAPublicKey)
        scheme = Scheme.PKCS1 if is_rsa else Scheme.ECDSA
        return self.sign_digest(hashlib.sha256(message).digest(), scheme)

    def sign_digest(self, digest: bytes, scheme: Scheme) -> bytes:
        def act(session: Session) -> bytes:
            private = one(session, self._wanted, name=self._name)
            return token_kinds.sign(session, private, self._public_key, digest=digest, scheme=scheme)

        return self._access.within(act)

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> Sidecar | None:
        return self.arm_by(context, chain_pem=chain_pem).sidecar

    def arm_by(self, context: ssl.SSLContext, *, chain_pem: str) -> Armed:
        """Do as `arm`, and return by which way TLS signs."""
        # OpenSSL tells no reason when a handshake's signature fails; here the token can say it itself.
        self.sign(b"")
        return self._access.arm(context, self, reference=self._reference, chain_pem=chain_pem)
