"""Serial numbers: 16 octets, positive, ordered by time, with 104 random bits.

Never draws randomness itself, and never hands out a serial below an earlier one of the same device:
the protocol tells newer from older by the serial alone.
"""

from datetime import UTC, datetime, timedelta

from device_agent.wire.identity import parse_serial, serial_hex
from fleet.errors import FleetError

SERIAL_RANDOMNESS = 13
"""Octets of randomness in a serial: 104 bits, above the 64 that CA/B BR 7.1 asks for."""

# RFC 5280 4.1.2.2: positive, at most 20 octets. The top bits are 01, so that the DER integer is
# always exactly 16 octets and never needs a sign octet.
_TOP = 0x40 << 120
_LAST = (0x80 << 120) - 1
LEASED_RANDOMNESS = 9
"""Octets of randomness in a serial under a lease: 72 bits, above the 64 that CA/B BR 7.1 asks for."""
_NUMBER_BITS = 32
ADOPTED = "00"
"""How the records of leaves begin that another CA made: below every serial of ours."""
_RANDOM_BITS = 8 * SERIAL_RANDOMNESS
_TIME_BITS = 22
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_TICK = timedelta(seconds=1024)


def new_serial(*, now: datetime, randomness: bytes, above: str | None = None) -> str:
    """Return a serial number as 32 lower-case hex, above `above`, the highest of that device so far.

    Two bits 01, then 22 bits of time in units of 1024 s since 2024, then 104 random bits.

    Raises:
        ValueError: the randomness is not 13 octets, or the time is outside of 2024 to 2160.
        FleetError: there is no serial left above `above`.
    """
    if len(randomness) != SERIAL_RANDOMNESS:
        raise ValueError(f"a serial needs {SERIAL_RANDOMNESS} octets of randomness")
    ticks = (now - _EPOCH) // _TICK
    if not 0 <= ticks < 1 << _TIME_BITS:
        raise ValueError("the clock is outside of the years that a serial can tell")
    random = int.from_bytes(randomness, "big")
    number = _TOP | ticks << _RANDOM_BITS | random
    if above is not None:
        # A clock that went back, or two serials in one tick, must not turn the order around.
        number = max(number, int(parse_serial(above), 16) + 1 + random)
    if number > _LAST:
        raise FleetError("no serial number is left for this device", hint="register it under a new device id")
    return serial_hex(number)


def leased_serial(*, now: datetime, number: int, randomness: bytes) -> str:
    """Return the serial of a certificate made under a lease: the time, the lease's number, 72 random bits.

    No two certificates of a lease can have the same number and not be told from each other.

    Raises:
        ValueError: the number has more than 32 bits, or as `new_serial`.
    """
    if not 0 < number < 1 << _NUMBER_BITS or len(randomness) < LEASED_RANDOMNESS:
        raise ValueError("a leased serial needs a number of 32 bits and 9 octets of randomness")
    return new_serial(now=now, randomness=number.to_bytes(4, "big") + randomness[:LEASED_RANDOMNESS])


def leased_number(serial: str) -> int:
    """Return the number that `leased_serial` was given."""
    return int(serial[6:14], 16)


def jitter_of(serial: str) -> float:
    """Return from 0 up to 1, of the serial's random bits: it spreads renewals, and never moves."""
    return int(serial[-8:], 16) / 2**32


def is_adopted(serial: str) -> bool:
    """Tell whether a record stands for a leaf of another CA."""
    return serial.startswith(ADOPTED)
