"""The keys of authorities that are in tokens: each has a file in its folder that says where it is, by a URI.

The library that speaks to tokens is loaded at the first key, so that a fleet without one needs none.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.token_uri import TokenUri, read_token_uri
from fleet.ca.signers import Signer
from fleet.ca.token_pins import TokenPins
from fleet.core.goodkey import CertifiedKey, KeyType
from fleet.errors import BadInputError, FleetError
from fleet.files import PUBLIC_MODE, make_folder, telling, write_file

if TYPE_CHECKING:
    from fleet.ca.token import TokenSigner

_EXAMPLE = "pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/fleet/pin"
_LONGEST_URI = 4096


def parse_token(text: str) -> TokenUri:
    """Return the token that a URI names (RFC 7512). Raises `BadInputError`."""
    try:
        uri = read_token_uri(text)
    except MalformedMessageError as error:
        raise BadInputError(str(error), hint=f"such as '{_EXAMPLE}'") from error
    if uri.key_type or uri.piv_slots:
        raise BadInputError(
            "key-type= and piv-slots= in a URI are for devices", hint="leave them out; ca_key says the type"
        )
    return uri


class TokenKeys:
    """Signers by the file that names their key; one PIN source for each token."""

    __slots__ = ("_made", "_pins", "_refused")

    def __init__(self, refused_pins: Path | None = None) -> None:
        """`refused_pins` is a folder that remembers over restarts which PINs tokens refused."""
        self._refused = refused_pins
        self._pins: dict[TokenUri, TokenPins] = {}
        self._made: list[TokenUri] = []

    def signer(self, file: Path, public_key: CertifiedKey) -> "TokenSigner":
        """Return the signer of the key that a file names; the token is asked at its first use."""
        uri = _read(file)
        with _extra():
            from fleet.ca.token import TokenSigner  # noqa: PLC0415 - an extra
        return TokenSigner(uri, pins=self._pins_of(uri), public_key=public_key)

    def place_of(self, file: Path) -> TokenUri | None:
        """Return the token that the key of a file is in, for another key; None where there is no such file.

        Raises:
            BadInputError: the file names no key in a token.
        """
        return replace(_read(file), object="") if file.exists() else None

    def make(self, file: Path, uri: TokenUri, *, label: str, key_type: KeyType) -> Signer:
        """Make a key in a token, under the URI's prefix and a label, and write down where it is.

        Raises:
            RefusedError: there is a key of that name already.
            FleetError: the token cannot be used, or does not keep the key inside.
        """
        key = replace(uri, object=f"{uri.object}{label}")
        with _extra():
            from fleet.ca.token import make_token_key  # noqa: PLC0415 - an extra
        made = make_token_key(key, key_type, pins=self._pins_of(key))
        self._made.append(key)
        make_folder(file.parent)
        write_file(file, f"{key.text()}\n".encode(), mode=PUBLIC_MODE)
        return made

    def kept_or_made(self, file: Path, *, key_type: KeyType) -> Signer:
        """Return the signer of the key that a file names, which is made where the token has none yet.

        The file is the intent: a cut at any moment leaves no key that nothing names. Raises `FleetError`.
        """
        uri = _read(file)
        with _extra():
            from fleet.ca import token  # noqa: PLC0415 - an extra
        pins = self._pins_of(uri)
        if (found := token.find_token_key(uri, pins=pins)) is not None:
            return found
        token.destroy_token_key(uri, pins=pins)  # half of a pair, where power was cut
        return token.make_token_key(uri, key_type, pins=pins)

    def destroy(self, file: Path) -> None:
        """Remove the key that a file names from its token for good. Raises `FleetError`."""
        uri = _read(file)
        with _extra():
            from fleet.ca.token import destroy_token_key  # noqa: PLC0415 - an extra
        destroy_token_key(uri, pins=self._pins_of(uri))

    @contextmanager
    def or_none(self) -> Iterator[None]:
        """Remove the keys that were made in the body again, where it fails."""
        kept = len(self._made)
        try:
            yield
        except BaseException:
            for key in self._made[kept:]:
                self._destroy(key)
            raise

    def _destroy(self, key: TokenUri) -> None:
        with _extra():
            from fleet.ca.token import destroy_token_key  # noqa: PLC0415 - an extra
        with suppress(FleetError):  # it cannot be reached any more, and nothing is signed by it
            destroy_token_key(key, pins=self._pins_of(key))

    def _pins_of(self, uri: TokenUri) -> TokenPins:
        token = replace(uri, object="")
        if token not in self._pins:
            name = hashlib.sha256(token.text().encode()).hexdigest()
            refused = None if self._refused is None else self._refused / name
            self._pins[token] = TokenPins(uri.pin_source, refused=refused)
        return self._pins[token]


def _read(file: Path) -> TokenUri:
    with telling(file):
        content = file.read_bytes()
    if len(content) > _LONGEST_URI:
        raise BadInputError(f"{file} names no key in a token", hint="restore it from the backup")
    try:
        return read_token_uri(content.decode("ascii").strip())
    except (MalformedMessageError, UnicodeDecodeError) as error:
        raise BadInputError(f"{file} names no key in a token", hint="restore it from the backup") from error


@contextmanager
def _extra() -> Iterator[None]:
    """Say what is missing where the library that speaks to tokens is not installed."""
    try:
        yield
    except ImportError as error:
        raise FleetError(
            "keys in tokens need the package python-pkcs11", hint="pip install 'fleet-provisioning[hsm]'"
        ) from error
