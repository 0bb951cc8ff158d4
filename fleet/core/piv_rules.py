"""Which keys of a PIV token are enough for a device that stands alone: firmware, slot, PIN and touch."""

from dataclasses import dataclass
from enum import IntEnum

SLOTS = frozenset({"9a", "9c", "9d", "9e", *(f"{number:x}" for number in range(0x82, 0x96))})
"""All that hold keys of their owner (NIST SP 800-73-4 part 1, table 4b): four, and twenty retired ones."""


class PinPolicy(IntEnum):
    """When the token wants its PIN, by the number in its attestations."""

    NEVER = 1
    ONCE = 2
    """Once a session."""
    ALWAYS = 3
    """Before each signature."""
    MATCH_ONCE = 4
    """A fingerprint or the PIN."""
    MATCH_ALWAYS = 5

    @property
    def word(self) -> str:
        """As fleet.toml has it."""
        return self.name.lower().replace("_", "-")


class TouchPolicy(IntEnum):
    """When somebody has to touch it, by the number in its attestations."""

    NEVER = 1
    ALWAYS = 2
    CACHED = 3
    """Unless somebody did a few seconds ago."""

    @property
    def word(self) -> str:
        """As fleet.toml has it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class PivRules:
    """What is enough; as it is, for a device that nobody touches and that signs again and again."""

    minimum_firmware: tuple[int, int, int] = (4, 3, 5)
    """Below it, RSA keys were made weak (Yubico advisory YSA-2017-01)."""
    pin: frozenset[PinPolicy] = frozenset({PinPolicy.NEVER, PinPolicy.ONCE})
    touch: frozenset[TouchPolicy] = frozenset({TouchPolicy.NEVER})
    slots: frozenset[str] = SLOTS
