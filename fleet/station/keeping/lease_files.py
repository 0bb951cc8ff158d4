"""Where a station keeps the key of its CA, and how it is opened: an encrypted file, or a token.

The passphrase comes from systemd, or from a file of its own that only the owner reads. No key is shown.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509

from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret
from fleet.ca.requesting import signer_csr
from fleet.ca.signers import KeySigner, Signer, encrypted_pem, load_key, make_key
from fleet.ca.token_keys import parse_token
from fleet.core.goodkey import CertifiedKey, KeyType, certified_key
from fleet.core.lease import SignedLease, parse_lease, parse_signed
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError
from fleet.files import make_folder, read_secret, telling, write_file
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.workshop import Workshop, verified
from fleet.station.own.identity import TOKEN_FILE, StationIdentity, tokens_beside

CREDENTIAL = "fleet-station-passphrase"
"""Name of the systemd credential (systemd.exec(5), LoadCredential=) that opens the key of a station's CA."""
_WORK_FACTOR = 14
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFiles:
    """The files of a station's CA, beside those of the station itself."""

    key: Path
    """PKCS#8, encrypted."""
    token: Path
    """Or in which token it is (RFC 7512)."""
    passphrase: Path

    @classmethod
    def beside(cls, station_key: Path) -> Self:
        """Return the files of the station whose key has this path."""
        return cls._of(station_key.with_suffix(""), "ca")

    @property
    def following(self) -> "LeaseFiles":
        """The files of the key that was asked a lease for: it comes into use when that is taken."""
        stem = self.key.with_suffix("")
        return LeaseFiles(
            key=stem.with_name(f"{stem.name}-next.key"),
            token=stem.with_name(f"{stem.name}-next{TOKEN_FILE}"),
            passphrase=self.passphrase,
        )

    @classmethod
    def _of(cls, station: Path, what: str) -> Self:
        stem = f"{station.name}-{what}"
        return cls(
            key=station.with_name(f"{stem}.key"),
            token=station.with_name(f"{stem}{TOKEN_FILE}"),
            passphrase=station.with_name(f"{stem}.passphrase"),
        )


def make_authority_key(files: LeaseFiles, name: str, *, token: str | None, randomness: bytes) -> str:
    """Make the next key of a station's CA, and return its request, PEM; the one in use stays so.

    `randomness` is 64 octets. A key in a file is encrypted with the passphrase beside it, which is made here
    where there is none.

    Raises:
        FleetError: the token cannot be used, or a file cannot be written.
    """
    following = files.following
    if token is not None:
        label = f"station-{name}-ca-{randomness[:4].hex()}"
        signer = tokens_beside(following.token).make(
            following.token, parse_token(token), label=label, key_type=KeyType.P256
        )
        following.key.unlink(missing_ok=True)
        return signer_csr(signer, name)
    make_folder(files.key.parent)
    if not files.passphrase.exists() and not os.environ.get("CREDENTIALS_DIRECTORY"):
        write_file(files.passphrase, f"{randomness[:32].hex()}\n".encode())
    key, passphrase = make_key(), _passphrase(files, environment=os.environ)
    pem = encrypted_pem(key, passphrase, randomness=randomness[32:], work_factor=_WORK_FACTOR)
    write_file(following.key, pem)
    following.token.unlink(missing_ok=True)
    return signer_csr(KeySigner(key), name)


def read_lease(content: bytes) -> SignedLease:
    """Return the lease that a file holds. Raises `BadInputError`."""
    try:
        return parse_signed(content[:_MOST_BYTES])
    except MalformedMessageError as error:
        raise BadInputError(
            f"this is no lease: {error}", hint="fleet station lease grant makes one"
        ) from error


async def take_lease(
    ledger: Ledger, signed: SignedLease, *, identity: StationIdentity, files: LeaseFiles
) -> Workshop:
    """Verify a lease, and let the station sign under it from now on.

    Raises:
        RefusedError: it is not this station's, for another key, or replays one before the newest.
        FleetError: the key of the CA cannot be used.
    """
    workshop = _opened(signed, identity=identity, files=files, servers=())
    known = await ledger.lease()
    if known is not None and parse_lease(known[0].octets).lease > workshop.lease.lease:
        raise RefusedError(
            f"lease {workshop.lease.lease} is older than the one in use", hint="ask for a new one"
        )
    await ledger.take_lease(signed, crl=workshop.crl())
    return workshop


async def open_workshop(
    ledger: Ledger, identity: StationIdentity, *, key: Path, servers: tuple[bytes, ...]
) -> Workshop | None:
    """Return what signs off line, or None where the station has no lease; `key` is the station's own.

    Raises:
        FleetError: there is a lease, and its CA's key cannot be used.
    """
    known = await ledger.lease()
    if known is None:
        return None
    return _opened(known[0], identity=identity, files=LeaseFiles.beside(key), servers=servers)


def _opened(
    signed: SignedLease, *, identity: StationIdentity, files: LeaseFiles, servers: tuple[bytes, ...]
) -> Workshop:
    lease = verified(signed, identity)
    public_key = certified_key(x509.load_der_x509_certificate(lease.authority).public_key())
    signer = _signer(files, public_key)
    return Workshop.opened(signed, identity=identity, signer=signer, servers=servers)


def _signer(files: LeaseFiles, public_key: CertifiedKey) -> Signer:
    """Return who signs with a key: the one in use, or the next one, which is in use from now on."""
    failed: FleetError | None = None
    for one in (files.following, files):
        if not one.key.exists() and not one.token.exists():
            continue
        try:
            signer = _signer_of(one, public_key)
            signer.unlock()
        except FleetError as error:
            failed = error
            continue
        return signer if one is files else _promoted(files, public_key)
    if failed is not None:
        raise failed
    raise NotFoundError(f"{files.key} is not there", hint="fleet station lease request makes one")


def _signer_of(files: LeaseFiles, public_key: CertifiedKey) -> Signer:
    if files.token.exists():
        return tokens_beside(files.token).signer(files.token, public_key)
    key = load_key(files.key, passphrase=_passphrase(files, environment=os.environ))
    if key.public_key() != public_key:
        raise RefusedError(
            f"the lease is for another key than {files.key}", hint="fleet station lease request"
        )
    return KeySigner(key)


def _promoted(files: LeaseFiles, public_key: CertifiedKey) -> Signer:
    following = files.following
    is_token = following.token.exists()
    with telling(files.key):
        if is_token:
            following.token.replace(files.token)
            files.key.unlink(missing_ok=True)
        else:
            following.key.replace(files.key)
            files.token.unlink(missing_ok=True)
    return _signer_of(files, public_key)


def _passphrase(files: LeaseFiles, *, environment: Mapping[str, str]) -> Secret:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and (credential := Path(folder) / CREDENTIAL).exists():
        # systemd lets the service's user in by an access control list, whose mask shows as the group's.
        return read_secret(credential, closed=0o037)
    if not files.passphrase.exists():
        raise NotFoundError(
            f"there is no passphrase for {files.key}",
            hint=f"put it into {files.passphrase}, mode 600, or LoadCredential={CREDENTIAL}:PATH",
        )
    return read_secret(files.passphrase)
