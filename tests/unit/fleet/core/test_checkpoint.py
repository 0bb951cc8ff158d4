"""Checkpoints and cosignatures: the published example, what we make, and whatever else may come."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.core.checkpoint import (
    LOG_KEY,
    WITNESS_KEY,
    Checkpoint,
    NoteKey,
    parse_cosignature,
    parse_key,
    parse_known_size,
    signature_line,
    signed_note,
    submission,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
WITNESS = NoteKey(name="witness.example.org/w1", kind=WITNESS_KEY, public=PUBLIC)
CHECKPOINT = Checkpoint(origin="acme/0011223344556677", size=12, root=b"\x07" * 32)
AT = 1_700_000_000


def cosign(checkpoint: Checkpoint, *, key: NoteKey = WITNESS, at: int = AT) -> str:
    message = f"cosignature/v1\ntime {at}\n{checkpoint.text()}".encode()
    return signature_line(key, at.to_bytes(8, "big") + PRIVATE.sign(message))


def test_the_key_in_the_documentation_of_go_has_the_id_that_stands_there() -> None:
    key = parse_key("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", kind=LOG_KEY)
    assert (key.name, key.key_id.hex()) == ("PeterNeumann", "c74f20a3")


def test_a_checkpoint_is_three_lines() -> None:
    root = base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
    checkpoint = Checkpoint(origin="example.com/behind-the-sofa", size=20852163, root=root)
    lines = ["example.com/behind-the-sofa", "20852163", "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="]
    assert checkpoint.text().splitlines() == lines
    assert signed_note(checkpoint, ["\u2014 a b", "\u2014 c d"]) == (
        "".join(f"{line}\n" for line in lines) + "\n\u2014 a b\n\u2014 c d\n"
    )


def test_a_submission_names_the_size_known_and_the_way_from_there() -> None:
    assert submission("note\n", earlier=0, consistency=()) == b"old 0\n\nnote\n"
    assert submission("note\n", earlier=3, consistency=(b"\0\0\0",)) == b"old 3\nAAAA\n\nnote\n"


def test_a_key_is_read_as_it_is_written() -> None:
    assert parse_key(WITNESS.text(), kind=WITNESS_KEY) == WITNESS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no key"),
        ("w1", "no key"),
        (WITNESS.text()[:-4], "no key"),
        (WITNESS.text().replace("w1", "w2"), "does not fit"),
        (WITNESS.text().replace("w1", "w 1"), "no key"),
        (NoteKey(name="log", kind=LOG_KEY, public=PUBLIC).text(), "of kind 1"),
    ],
)
def test_a_key_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(MalformedMessageError, match=why):
        parse_key(text, kind=WITNESS_KEY)


def test_a_cosignature_is_found_among_others() -> None:
    other = NoteKey(name="another", kind=WITNESS_KEY, public=PUBLIC)
    mine = cosign(CHECKPOINT)
    answer = f"{cosign(CHECKPOINT, key=other)}\n{mine}\n".encode()
    found = parse_cosignature(answer, checkpoint=CHECKPOINT, key=WITNESS)
    assert (found.line, found.at) == (mine, datetime.fromtimestamp(AT, tz=UTC))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no cosignature of"),
        (b"x" * 5000, "longer than"),
        (cosign(Checkpoint(origin="other", size=12, root=b"\x07" * 32)).encode(), "did not sign"),
        (cosign(Checkpoint(origin=CHECKPOINT.origin, size=13, root=b"\x07" * 32)).encode(), "did not sign"),
        (signature_line(WITNESS, b"\0" * 71).encode(), "cut off"),
        (signature_line(WITNESS, b"\xff" * 72).encode(), "cut off"),
        (signature_line(WITNESS, b"\0" * 72).encode(), "did not sign"),
        (cosign(CHECKPOINT, key=NoteKey(name="another", kind=4, public=PUBLIC)).encode(), "no cosignature"),
    ],
    ids=["empty", "long", "other log", "other size", "short", "far future", "zeros", "other witness"],
)
def test_an_answer_without_a_good_cosignature_is_refused(answer: bytes, why: str) -> None:
    with pytest.raises(MalformedMessageError, match=why):
        parse_cosignature(answer, checkpoint=CHECKPOINT, key=WITNESS)


@given(st.binary(max_size=400))
def test_whatever_is_answered_is_read_or_refused(answer: bytes) -> None:
    for read in (
        lambda: parse_cosignature(answer, checkpoint=CHECKPOINT, key=WITNESS),
        lambda: parse_known_size(answer),
        lambda: parse_key(answer.decode("latin-1"), kind=WITNESS_KEY),
    ):
        try:
            read()
        except MalformedMessageError:
            continue


@pytest.mark.parametrize(("answer", "size"), [(b"0\n", 0), (b"12", 12), (b"12\n", 12)])
def test_the_size_that_a_witness_knows_is_a_number(answer: bytes, size: int) -> None:
    assert parse_known_size(answer) == size


@pytest.mark.parametrize("answer", [b"", b"-1", b"012", b"1 2", b"9" * 19, b"12\n\n"])
def test_another_size_is_refused(answer: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="does not say"):
        parse_known_size(answer)
