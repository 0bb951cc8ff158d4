"""The key that a station uses next: in its file or its token from before it is certified until it is used.

What was begun is found again after any cut: the same key is certified, put in force and told of, and only
then the one before it goes. No key is shown, and none that is in force is touched by anything but `switch`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.ca.requesting import signer_csr
from fleet.ca.signers import Signer, make_key, plain_pem
from fleet.core.goodkey import KeyType
from fleet.errors import NotFoundError
from fleet.files import PUBLIC_MODE, sync_folder, telling, write_file
from fleet.home import KeyPairFiles
from fleet.pair_files import in_force, pair_content, switch
from fleet.station.own.identity import TOKEN_FILE, read_key, tokens_beside

LABEL_RANDOMNESS = 4
"""Octets in the label of a key in a token: none has the one of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextKey:
    """A key that is to be certified; `kept` is what the file of the key in force is to hold."""

    signer: Signer
    kept: bytes = field(repr=False)

    def csr(self, station: str) -> str:
        """Return its request, PEM. Raises `FleetError` where a token does not sign."""
        return signer_csr(self.signer, station)


def is_begun(files: KeyPairFiles) -> bool:
    """Tell whether a renewal was begun and not finished."""
    return _next(files).exists()


def begin(files: KeyPairFiles, station: str, *, randomness: bytes) -> NextKey:
    """Return the next key: the one that was begun with, else one that is made now, durably.

    `randomness` is `LABEL_RANDOMNESS` octets.

    Raises:
        FleetError: the token cannot be used, or the file cannot be written.
    """
    following = _next(files)
    if following.suffix == TOKEN_FILE:
        return _in_token(files, station, randomness)
    if not following.exists():
        write_file(following, plain_pem(make_key()))
    with telling(following):
        return NextKey(signer=read_key(following), kept=following.read_bytes())


def put_in_force(files: KeyPairFiles, key: NextKey, certificate_pem: str) -> None:
    """Replace certificate and key in one step; which key a token then holds for nothing is written first."""
    if files.key.suffix == TOKEN_FILE:
        write_file(_before(files), in_force(files).key.read_bytes(), mode=PUBLIC_MODE)
    contents = pair_content(files, key_pem=key.kept, certificate_pem=certificate_pem)
    switch(contents, named=files.certificate)


def finish(files: KeyPairFiles) -> None:
    """End what was begun, once the next key is in force and used: the one before leaves its token.

    Raises:
        FleetError: the token cannot be used; it is tried again.
    """
    before = _before(files)
    if before.exists():
        if before.read_bytes() != in_force(files).key.read_bytes():
            tokens_beside(files.key).destroy(before)
        _remove(before)
    _remove(_next(files))


def give_up(files: KeyPairFiles) -> None:
    """Drop a next key that can never be certified; raises `FleetError`."""
    following = _next(files)
    if following.suffix == TOKEN_FILE and following.exists():
        tokens_beside(files.key).destroy(following)
    _remove(following)


def _in_token(files: KeyPairFiles, station: str, randomness: bytes) -> NextKey:
    following, tokens = _next(files), tokens_beside(files.key)
    if not following.exists():
        uri = tokens.place_of(in_force(files).key)
        if uri is None:
            raise NotFoundError(f"{files.key} is not there", hint="restore it from the backup")
        key = replace(uri, object=f"station-{station}-{randomness.hex()}")
        write_file(following, f"{key.text()}\n".encode(), mode=PUBLIC_MODE)
    signer = tokens.kept_or_made(following, key_type=KeyType.P256)
    return NextKey(signer=signer, kept=following.read_bytes())


def _next(files: KeyPairFiles) -> Path:
    return files.key.with_name(f"{files.key.stem}.next{files.key.suffix}")


def _before(files: KeyPairFiles) -> Path:
    return files.key.with_name(f"{files.key.stem}.before{files.key.suffix}")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_folder(path.parent)
