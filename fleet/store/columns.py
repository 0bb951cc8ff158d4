"""Takes a column out of a row with the type that the schema gives it.

A value of another type means a damaged database: it is refused, never bent into shape.
"""

from fleet.errors import StoreError
from fleet.ports import Value


def text(value: Value) -> str:
    """Return the text of a column that is never NULL."""
    if isinstance(value, str):
        return value
    raise _wrong("text", value)


def optional_text(value: Value) -> str | None:
    """Return the text of a column, or None."""
    return None if value is None else text(value)


def number(value: Value) -> int:
    """Return the integer of a column that is never NULL."""
    if isinstance(value, int):
        return value
    raise _wrong("an integer", value)


def optional_number(value: Value) -> int | None:
    """Return the integer of a column, or None."""
    return None if value is None else number(value)


def flag(value: Value) -> bool:
    """Return whether a column holds 1, and not 0."""
    return number(value) != 0


def octets(value: Value) -> bytes:
    """Return the bytes of a column that is never NULL."""
    if isinstance(value, bytes):
        return value
    raise _wrong("bytes", value)


def optional_octets(value: Value) -> bytes | None:
    """Return the bytes of a column, or None."""
    return None if value is None else octets(value)


def _wrong(expected: str, value: Value) -> StoreError:
    found = "NULL" if value is None else type(value).__name__
    return StoreError(
        f"the store holds {found} where {expected} belongs", hint="restore the fleet home from a backup"
    )
