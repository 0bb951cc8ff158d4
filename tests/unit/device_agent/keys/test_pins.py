"""Where a PIN may come from, and that a refused one is not used again."""

import os
from pathlib import Path

import pytest

from device_agent.errors import KeyStoreError
from device_agent.keys import pins
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
        PinSource("pin").read("t")


def program(folder: Path, body: str, mode: int = 0o700) -> Path:
    path = folder / "say-pin"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return path


def test_a_pin_comes_from_a_program_that_is_run_without_a_shell(tmp_path: Path) -> None:
    path = program(tmp_path, 'printf "%s\\n" "$1"')
    assert PinSource(f"|{path} '$(id) 1'").read("t") == Secret("$(id) 1")


def test_a_program_is_named_by_its_whole_path() -> None:
    for source in ("|", "|cat /pin"):
        with pytest.raises(KeyStoreError, match="path from /"):
            PinSource(source).read("t")


def test_what_a_failing_program_says_is_not_repeated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = program(tmp_path, "echo 271828; echo 271828 >&2; exit 3")
    with pytest.raises(KeyStoreError, match="says no PIN, it ended with 3") as caught:
        PinSource(f"|{path}").read("t")
    assert "271828" not in f"{caught.value}{caught.value.hint}{capfd.readouterr()}{caplog.text}"


def test_a_program_that_others_can_change_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="may change"):
        PinSource(f"|{program(tmp_path, 'echo 1', mode=0o777)}").read("t")


@pytest.mark.parametrize("mode", [None, 0o600])
def test_a_program_that_cannot_be_run_is_told(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "absent" if mode is None else program(tmp_path, "echo 1", mode=mode)
    with pytest.raises(KeyStoreError, match="cannot ask"):
        PinSource(f"|{path}").read("t")


def test_a_program_that_does_not_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "_PROGRAM_SECONDS", 0)
    with pytest.raises(KeyStoreError, match="says no PIN in 0 s"):
        PinSource(f"|{program(tmp_path, 'exec cat /dev/zero')}").read("t")


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
