"""Keys in a TPM: where it is, what it refuses, and what a damaged file of a key means."""

from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.errors import BadInputError, KeyStoreError
from device_agent.keys.tpm import TpmAttestor, TpmKeyStore
from device_agent.keys.tpm_commands import OWNER, Tpm, TpmCallError
from device_agent.keys.tpm_link import TpmPlace, parse_tpm_place
from device_agent.keys.tpm_templates import STORAGE
from device_agent.wire.replies import Challenge

NOWHERE = TpmPlace(device=Path("/nowhere/tpm0"))


@pytest.mark.parametrize("text", ["device:/dev/tpm0", "swtpm:host=127.0.0.1,port=2321"])
def test_a_place_is_written_as_it_is_read(text: str) -> None:
    assert parse_tpm_place(text).text() == text


def test_no_place_is_the_kernels() -> None:
    assert parse_tpm_place("").device == Path("/dev/tpmrm0")


@pytest.mark.parametrize("text", ["usb", "device:tpm0", "swtpm:host=h,port=0", "swtpm:host=h", "device:/x\n"])
def test_what_names_no_tpm_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="no place of a TPM"):
        parse_tpm_place(text)


def test_a_tpm_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="the TPM /nowhere/tpm0 cannot be opened: no such file"):
        TpmKeyStore(NOWHERE, tmp_path).create("k-1")


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x00\x02ab", b"\x00\x02ab\x00\x09", b"\xff\xff"])
def test_a_damaged_file_of_a_key_is_no_key(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "k-1.tpm"
    file.touch(mode=0o600)
    file.write_bytes(content)
    with pytest.raises(KeyStoreError):
        TpmKeyStore(NOWHERE, tmp_path).open("k-1")


def test_a_wrapped_key_is_no_file_of_a_key_to_others(tmp_path: Path) -> None:
    assert TpmKeyStore(NOWHERE, tmp_path).reference("k-1") == f"tpm:{tmp_path}/k-1.tpm"


def test_a_challenge_for_no_tpm_is_not_answered(tmp_path: Path) -> None:
    challenge = Challenge(id="a", nonce="5a" * 32, fleet="acme", domain="prod", expires_in_seconds=120)
    attestor = TpmAttestor(place=NOWHERE, store=TpmKeyStore(NOWHERE, tmp_path))
    with pytest.raises(KeyStoreError, match="holds nothing for a TPM"):
        attestor.answer(challenge, device_id="d1", key="k-1", key_hash="ab" * 32)


class Saying:
    """A link whose responses are given."""

    def __init__(self, respond: Callable[[bytes], bytes]) -> None:
        self.respond = respond

    def transact(self, command: bytes) -> bytes:
        return self.respond(command)


def response(code: int, body: bytes = b"") -> bytes:
    return b"\x80\x01" + (10 + len(body)).to_bytes(4) + code.to_bytes(4) + body


def test_a_refusal_is_told_in_words_and_by_its_code() -> None:
    tpm = Tpm(Saying(lambda _command: response(0x902)))
    with (
        pytest.raises(TpmCallError, match=r"no room for another object.*\(0x902\)"),
        tpm.primary(OWNER, STORAGE),
    ):
        pass


@pytest.mark.parametrize("cut", range(10, 30, 3))
def test_a_response_that_ends_too_early_is_no_answer(cut: int) -> None:
    whole = response(0, b"\x80\x00\x00\x01" + (64).to_bytes(4) + b"\x00\x3e" + bytes(62))
    tpm = Tpm(Saying(lambda _command: whole[:cut]))
    with pytest.raises(KeyStoreError), tpm.primary(OWNER, STORAGE):
        pass
