"""The URI of a token as a device's command line and files hold it."""

from device_agent.errors import BadInputError
from device_agent.keys.kinds import KeyKind
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.token_uri import TokenUri, read_token_uri

_EXAMPLE = (
    "pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/device-agent/pin"
)
TOKEN_KINDS = (KeyKind.P256, KeyKind.P384, KeyKind.RSA)
"""What tokens are asked for; the first where a URI says nothing."""

PIV_SLOTS = ("9a", "9c", "9d", "9e", *(f"{number:x}" for number in range(0x82, 0x96)))
"""Slots that hold keys of their owner (NIST SP 800-73-4 part 1, table 4b), in the order of their CKA_ID."""


def parse_token_uri(text: str) -> TokenUri:
    """Return the token that a URI names, and what keys are made there.

    Raises:
        BadInputError: it names none, not strictly so, or a key type that tokens are not asked for.
    """
    try:
        uri = read_token_uri(text)
    except MalformedMessageError as error:
        raise BadInputError(str(error), hint=f"--key '{_EXAMPLE}'") from error
    if uri.key_type and uri.key_type not in TOKEN_KINDS:
        raise BadInputError(
            "keys in tokens are of another key-type", hint=f"key-type={'|'.join(TOKEN_KINDS)}"
        )
    if uri.key_type and uri.piv_slots:
        raise BadInputError("keys in PIV slots are what they were made as", hint="leave key-type= out")
    if not set(uri.slots) <= set(PIV_SLOTS) or len(set(uri.slots)) != len(uri.slots):
        raise BadInputError("piv-slots names slots, each once", hint="piv-slots=9a,9c,82,83")
    return uri
