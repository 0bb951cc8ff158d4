"""Signs images for the boot loader MCUboot by imgtool, with a P-256 key in a file or in a token.

imgtool never sees the private key: it is given the signature. A key in a file signs as RFC 6979 says, so
that the same image comes out each time; a token draws its own nonce.
"""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.uri import parse_token_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKey:
    """What signs; `public_der` is a SubjectPublicKeyInfo."""

    public_der: bytes
    sign: Callable[[bytes], bytes]

    @property
    def public_pem(self) -> bytes:
        key = load_der_public_key(self.public_der)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The place of the image: its version, and the boot loader's measures of it, in bytes."""

    version: str
    size: int
    header: int = 0x200
    align: int = 8


@contextmanager
def key_of(place: str) -> Iterator[ImageKey]:
    """Have the key of a PEM file, or of the `pkcs11:` URI that `firmware_scripts.token` has printed.

    Raises:
        ValueError: it is not there, is encrypted, or is none of P-256.
        KeyStoreError: the token does not give it.
    """
    if not place.startswith("pkcs11:"):
        yield _key_in_file(Path(place))
        return
    # RFC 7512 2.3: a URI of a key says that it is private; one of a token must not.
    uri = parse_token_uri(place.replace(";type=private", "", 1))
    owner, dot, name = (uri.object or "").rpartition(".")
    if not dot:
        raise ValueError("the URI must name one key, as python -m firmware_scripts.token prints it")
    with tempfile.TemporaryDirectory() as folder:
        keys = TokenKeyStore(replace(uri, object=owner), refused_pins=Path(folder, "pin-refused"))
        signer = keys.open(name)
        yield ImageKey(public_der=signer.public_key_der, sign=signer.sign)


def sign_image(image: bytes, key: ImageKey, slot: Slot) -> bytes:
    """Return the image with header, signature and trailer, read back and verified by imgtool.

    Raises:
        ValueError: imgtool is missing, or says why it does not fit.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, public = folder / "plain.bin", folder / "public.pem"
        plain.write_bytes(image)
        public.write_bytes(key.public_pem)
        payload, signature, signed = folder / "payload", folder / "signature", folder / "signed.bin"
        words = ("sign", *_words(slot), "--fix-sig-pubkey", str(public))
        _imgtool(*words, "--vector-to-sign", "payload", str(plain), str(payload))
        signature.write_bytes(base64.b64encode(key.sign(payload.read_bytes())))
        _imgtool(*words, "--fix-sig", str(signature), str(plain), str(signed))
        _imgtool("verify", "--key", str(public), str(signed))
        return signed.read_bytes()


def verify_image(image: Path, key: ImageKey) -> None:
    """Check an image as the boot loader does; raises ValueError with what imgtool says."""
    with tempfile.TemporaryDirectory() as name:
        public = Path(name, "public.pem")
        public.write_bytes(key.public_pem)
        _imgtool("verify", "--key", str(public), str(image))


def _key_in_file(path: Path) -> ImageKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except TypeError as error:
        raise ValueError(f"{path} is encrypted; put the key into a token instead") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"{path} holds no key of P-256")
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return ImageKey(
        public_der=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        sign=lambda message: key.sign(message, algorithm),
    )


def _words(slot: Slot) -> tuple[str, ...]:
    return (
        *("--version", slot.version, "--slot-size", str(slot.size), "--align", str(slot.align)),
        *("--header-size", str(slot.header), "--pad-header"),
    )


def _imgtool(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgtool.main", *words], capture_output=True, text=True, check=False
    )
    said = (done.stderr or done.stdout).strip()
    if "No module named" in said:
        raise ValueError("imgtool is not installed: pip install 'fleet-provisioning[mcuboot]'")
    if done.returncode != 0:
        raise ValueError(f"imgtool: {said.splitlines()[-1] if said else 'failed'}")
