"""Where a PIN may come from, and that a refused one is not used again."""

import os
from pathlib import Path

import pytest

from device_agent.errors import KeyStoreError
from device_agent.keys.pins import CREDENTIAL, PinSource, RefusedPins
from device_agent.wire.secret import Secret


def pin_file(folder: Path, content: bytes = b"1234\n", mode: int = 0o600) -> Path:
    path = folder / "pin"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("prefix", ["", "file:", "file://"])
def test_a_pin_comes_from_a_file(tmp_path: Path, prefix: str) -> None:
    assert PinSource(f"{prefix}{pin_file(tmp_path)}").read("t") == Secret("1234")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = pin_file(tmp_path, mode=mode)
    with pytest.raises(KeyStoreError, match="others") as caught:
        PinSource(f"file:{path}").read("t")
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_link_to_a_file_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pin_file(tmp_path))
    with pytest.raises(KeyStoreError, match="cannot read the PIN"):
        PinSource(f"file:{link}").read("t")


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", mode=0o600)
    with pytest.raises(KeyStoreError, match="others"):
        PinSource(f"file:{tmp_path / 'pipe'}").read("t")


@pytest.mark.parametrize("content", [b"", b"\n", b"1\n2\n", b"\xff", b"1\x002", b"1" * 256])
def test_a_file_without_a_pin_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyStoreError, match="holds no PIN"):
        PinSource(f"file:{pin_file(tmp_path, content)}").read("t")


def test_a_file_is_named_by_its_whole_path() -> None:
    with pytest.raises(KeyStoreError, match="path from /"):
        PinSource("|cat pin").read("t")


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_a_pin_comes_from_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    (tmp_path / CREDENTIAL).write_bytes(b"4321")
    (tmp_path / CREDENTIAL).chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert PinSource("").read("t") == Secret("4321")


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(KeyStoreError, match="nothing says the PIN of the token t") as caught:
        PinSource("").read("t")
    assert CREDENTIAL in str(caught.value.hint)


def test_a_person_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["1234", "5678"])
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(answers))
    source = PinSource("")
    assert source.read("t") == source.read("t") == Secret("1234")
    source.forget()
    assert source.read("t") == Secret("5678")


def test_a_refused_pin_is_remembered_for_its_token_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "pin-refused"
    RefusedPins(path).add(Secret("1234"), serial="a")
    again = RefusedPins(path)
    again.require_untried(Secret("12345"), serial="a")
    again.require_untried(Secret("1234"), serial="b")
    with pytest.raises(KeyStoreError, match="not tried again"):
        again.require_untried(Secret("1234"), serial="a")
    assert b"1234" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    again.clear()
    again.require_untried(Secret("1234"), serial="a")
