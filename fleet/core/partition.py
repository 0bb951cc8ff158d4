"""Which part of an issuing CA's public revocation list speaks of a certificate (RFC 5280 5).

Parts are numbered like the nodes of a binary tree: 1 is everything, and part n falls apart into 2n and
2n + 1. So a number says by itself how many parts there were when a leaf was issued; however many there are
later, the part that a leaf names goes on speaking of it, and nothing has to be remembered.
"""

PARTITIONS = 128
"""How many parts a list has for new leaves, a power of two: of a million entries, each holds 8,000."""

SERVED = frozenset({PARTITIONS})
"""Every count that leaves were ever issued with: a count that is changed stays in here."""

# The last 16 bits of a serial are random (`serial`), and so spread evenly.
_SHARD_DIGITS = 4
_SHARD_BITS = 4 * _SHARD_DIGITS


def shard_of(serial: str) -> str:
    """Return what decides where a certificate belongs: the last four hex digits of its serial."""
    return serial[-_SHARD_DIGITS:].rjust(_SHARD_DIGITS, "0")


def partition_of(serial: str, *, partitions: int = PARTITIONS) -> int:
    """Return the number of the part that speaks of a certificate: `partitions` up to twice that."""
    return partitions + int(shard_of(serial), 16) * partitions // (1 << _SHARD_BITS)


def shards_of(partition: int) -> tuple[str, str]:
    """Return the first and the last shard of a part.

    Raises:
        ValueError: there is no such part.
    """
    depth = partition.bit_length() - 1
    if partition < 1 or depth > _SHARD_BITS:
        raise ValueError(f"there is no partition {partition}")
    width = 1 << (_SHARD_BITS - depth)
    first = (partition - (1 << depth)) * width
    return f"{first:04x}", f"{first + width - 1:04x}"


def is_served(partition: int) -> bool:
    """Tell whether a leaf can name this part."""
    return any(count <= partition < 2 * count for count in SERVED)
