"""The key of a new station: made here in a file or a token, or elsewhere, and then only its request comes.

Where the body of `with` fails, a key that was made here is done away with: nothing certifies it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.cli.handed import content_of
from fleet.errors import BadInputError, RefusedError
from fleet.files import make_folder, write_file
from fleet.home import KeyPairFiles

_MOST_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StationKey:
    """A request in PEM, and where its key is."""

    csr: str
    place: str


@contextmanager
def key_in_file(name: str, files: KeyPairFiles) -> Iterator[StationKey]:
    """Make a key in a file with mode 0600. Raises `RefusedError` where there is one already."""
    from fleet.ca.requesting import signer_csr  # noqa: PLC0415 - the cryptography, needed here only
    from fleet.ca.signers import KeySigner, make_key, plain_pem  # noqa: PLC0415 - as above

    _require_free(files)
    key = make_key()
    make_folder(files.key.parent)
    write_file(files.key, plain_pem(key))
    try:
        yield StationKey(csr=signer_csr(KeySigner(key), name), place=str(files.key))
    except BaseException:
        files.key.unlink(missing_ok=True)
        raise


@contextmanager
def key_in_token(name: str, files: KeyPairFiles, uri: str) -> Iterator[StationKey]:
    """Make a key in a token, and write down where it is. Raises `FleetError`."""
    from fleet.ca.requesting import signer_csr  # noqa: PLC0415 - the cryptography, needed here only
    from fleet.ca.token_keys import parse_token  # noqa: PLC0415 - as above
    from fleet.core.goodkey import KeyType  # noqa: PLC0415 - as above
    from fleet.station.own.identity import TOKEN_FILE, tokens_beside  # noqa: PLC0415 - as above

    _require_free(files)
    place = files.key.with_suffix(TOKEN_FILE)
    tokens = tokens_beside(place)
    with tokens.or_none():
        signer = tokens.make(place, parse_token(uri), label=f"station-{name}", key_type=KeyType.P256)
        try:
            yield StationKey(csr=signer_csr(signer, name), place=str(place))
        except BaseException:
            place.unlink(missing_ok=True)
            raise


@contextmanager
def request_of_file(file: Path) -> Iterator[StationKey]:
    """Read a request that was made elsewhere; its key stays there. Raises `BadInputError`."""
    content = content_of(file)
    if len(content) > _MOST_BYTES or not content.isascii():
        raise BadInputError(f"{file} is no CSR in PEM", hint="openssl req -new makes one")
    yield StationKey(csr=content.decode("ascii"), place="where the request was made")


def _require_free(files: KeyPairFiles) -> None:
    from fleet.station.own.identity import TOKEN_FILE  # noqa: PLC0415 - as above

    for path in (files.key, files.key.with_suffix(TOKEN_FILE)):
        if path.exists():
            raise RefusedError(f"{path} is there already", hint="choose another name, or another --out")
