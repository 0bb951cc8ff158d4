"""The URI of a token as a device's command line and files hold it."""

from device_agent.errors import BadInputError
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.token_uri import TokenUri, read_token_uri

_EXAMPLE = (
    "pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/device-agent/pin"
)


def parse_token_uri(text: str) -> TokenUri:
    """Return the token that a URI names. Raises `BadInputError` where it names none, or not strictly so."""
    try:
        return read_token_uri(text)
    except MalformedMessageError as error:
        raise BadInputError(str(error), hint=f"--key '{_EXAMPLE}'") from error
