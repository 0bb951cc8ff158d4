"""What the return codes of PKCS#11 (2.40, 5.1) mean to who looks after a device."""

from device_agent.errors import KeyStoreError
from device_agent.keys.cryptoki import CallError

PIN_INCORRECT = 0xA0

LOST = frozenset({0x05, 0x06, 0x30, 0x32, 0x60, 0x82, 0x90, 0xB0, 0xB3, 0xE0, 0xE1, 0x101, 0x190})
"""What modules return when a token was pulled, or changed or left busy under them; a new start may help."""

_WORDS = {
    0x02: "this machine has no memory left for it",
    0x05: "the token reports an error of its own",
    0x06: "the token could not do it",
    0x12: "the token does not know an attribute that keys need",
    0x30: "the token or its reader reports an error",
    0x31: "the token has no memory left",
    0x32: "the token was pulled",
    0x60: "the key is not in the token any more",
    0x63: "the token does not take keys of this type",
    0x68: "the key must not be used for this",
    0x70: "the token does not know the mechanism",
    0x82: "the key is not in the token any more",
    0x90: "the token is busy with something that it began before",
    PIN_INCORRECT: "the token refuses the PIN",
    0xA1: "the PIN has a form that the token does not take",
    0xA2: "the PIN has a length that the token does not take",
    0xA3: "the PIN has expired",
    0xA4: "the token has locked its PIN",
    0xB3: "the token was pulled",
    0xB5: "the token can only be read",
    0xE0: "the token is not there",
    0xE1: "the token is not one that the module knows",
    0xE2: "the token is write-protected",
    0x101: "nobody is logged in at the token",
    0x102: "the token's user PIN was never set",
    0x104: "another user is logged in at the token",
    0x190: "the module is not initialised",
}
_HINTS = {
    PIN_INCORRECT: "put the right PIN where the wrong one is; this one is not tried again",
    0xA4: "unlock the token with its security officer's PIN",
    0x31: "remove keys that nobody needs from the token",
    0xB5: "device keys need a token that can be written",
    0xE2: "device keys need a token that can be written",
    0x102: "initialise the token's user PIN",
}


def told(error: CallError) -> KeyStoreError:
    """Return a call's error in words, with what to do."""
    words = _WORDS.get(error.code, "the token gave an error that has no name here")
    hint = _HINTS.get(error.code, "is the token plugged in and the right one")
    return KeyStoreError(f"{words} ({error})", hint=hint)
