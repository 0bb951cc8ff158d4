"""The file of a backup opens with its key alone, and every change to it is found."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca.backup import CHUNK, MAGIC, Header, Opener, Sealer, check
from fleet.ca.shares import KEY_BYTES, Quorum
from fleet.errors import BadInputError

KEY = bytes(range(KEY_BYTES))
HEADER = Header(
    fleet="acme",
    backup_id="00112233445566aa",
    made_at=datetime(2026, 5, 1, 12, tzinfo=UTC),
    quorum=Quorum(needed=2, count=3),
    share_set=4711,
    salt=bytes(16),
    audit_size=3,
    audit_root=bytes(32),
    audit_key_pem="-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
)


def sealed(clear: bytes, *, piece: int = CHUNK) -> bytes:
    out = io.BytesIO()
    sealer = Sealer(out, HEADER, key=KEY)
    for start in range(0, len(clear), piece):
        sealer.write(clear[start : start + piece])
    sealer.finish(lambda message: b"signed " + message[-9:-1])
    return out.getvalue()


def opened(content: bytes, *, key: bytes = KEY) -> bytes:
    opener = Opener(io.BytesIO(content), key=key)
    found = b""
    while piece := opener.read(1000):
        found += piece
    opener.finish()
    return found


BODY = bytes(range(256)) * 600  # three chunks, the last one short
SEALED = sealed(BODY)


def chunks(content: bytes) -> list[bytes]:
    """The header, then each frame, then the rest."""
    start = len(MAGIC) + 4 + int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4], "big")
    found = [content[:start]]
    while length := int.from_bytes(content[start : start + 4], "big"):
        found.append(content[start : start + 4 + length])
        start += 4 + length
    return [*found, content[start:]]


@given(st.integers(0, 3), st.integers(-2, 2), st.integers(1, 3 * CHUNK))
def test_what_goes_in_comes_out(whole: int, rest: int, piece: int) -> None:
    clear = (BODY * 2)[: max(0, whole * CHUNK + rest)]
    assert opened(sealed(clear, piece=piece)) == clear


def test_it_tells_of_itself_without_the_key() -> None:
    checked = check(io.BytesIO(SEALED))
    assert checked.header == HEADER
    assert checked.size == len(SEALED)
    assert checked.signature == b"signed " + checked.message()[-9:-1]


def test_the_key_is_needed() -> None:
    with pytest.raises(BadInputError, match="shares do not open it"):
        opened(SEALED, key=bytes(KEY_BYTES))


@given(st.integers(0, len(SEALED) - 1))
def test_a_cut_is_found_wherever_it_is(length: int) -> None:
    for read in (opened, lambda content: check(io.BytesIO(content))):
        with pytest.raises(BadInputError):
            read(SEALED[:length])


@given(st.integers(0, len(b"".join(chunks(SEALED)[:-1])) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_found_wherever_it_is(place: int, bit: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= 1 << bit
    with pytest.raises(BadInputError):
        opened(bytes(changed))


@pytest.mark.parametrize(
    "order", [(0, 2, 1, 3, 4), (0, 1, 1, 2, 3, 4), (0, 1, 3, 4), (0, 1, 2, 4), (0, 2, 3, 4), (0, 4)]
)
def test_a_chunk_that_was_moved_doubled_or_taken_out_is_found(order: tuple[int, ...]) -> None:
    parts = chunks(SEALED)
    with pytest.raises(BadInputError):
        opened(b"".join(parts[number] for number in order))


def test_a_chunk_opens_under_its_own_header_alone() -> None:
    other = replace(HEADER, fleet="evil").encode()
    parts = chunks(SEALED)
    forged = MAGIC + len(other).to_bytes(4, "big") + other + b"".join(parts[1:])
    with pytest.raises(BadInputError):
        opened(forged)


def test_nothing_may_follow_the_end() -> None:
    for read in (opened, lambda content: check(io.BytesIO(content))):
        with pytest.raises(BadInputError, match="follows the end"):
            read(SEALED + b"\0")


def test_a_change_shows_in_what_is_signed() -> None:
    changed = bytearray(SEALED)
    changed[len(SEALED) // 2] ^= 1
    assert check(io.BytesIO(bytes(changed))).digest != check(io.BytesIO(SEALED)).digest


@given(st.binary(max_size=200))
def test_what_is_no_backup_is_refused(content: bytes) -> None:
    for start in (b"", MAGIC, MAGIC + b"\0\0\0\2{}"):
        with pytest.raises(BadInputError):
            check(io.BytesIO(start + content))
