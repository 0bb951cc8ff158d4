"""Where the PIN of a token comes from, and what is never done with it."""

import io
import os
from pathlib import Path

import pytest

from fleet.ca.token_pins import CREDENTIAL, TokenPins
from fleet.errors import BadInputError, FleetError, NotFoundError


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    path = tmp_path / "pin"
    path.touch(mode=0o600)
    path.write_text("123456\n")
    return path


def read(pins: TokenPins) -> str:
    return pins.read("fleet", serial="01").reveal()


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "{}"])
def test_a_file_is_named_by_its_path_from_the_root(pin_file: Path, form: str) -> None:
    assert read(TokenPins(form.format(pin_file), refused=None)) == "123456"


def test_a_file_is_read_again_each_time(pin_file: Path) -> None:
    pins = TokenPins(f"file:{pin_file}", refused=None)
    assert read(pins) == "123456"
    pin_file.write_text("654321\n")
    assert read(pins) == "654321"


@pytest.mark.parametrize("content", ["", "\n", "1\x002\n", "x" * 256])
def test_what_is_no_pin_is_refused_and_not_repeated(pin_file: Path, content: str) -> None:
    pin_file.write_text(content)
    with pytest.raises(BadInputError) as caught:
        read(TokenPins(f"file:{pin_file}", refused=None))
    assert content.strip() == "" or content.strip() not in str(caught.value)


def test_a_link_and_a_file_open_to_others_are_refused(pin_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pin_file)
    with pytest.raises(BadInputError, match="symbolic link"):
        read(TokenPins(f"file:{link}", refused=None))
    pin_file.chmod(0o640)
    with pytest.raises(BadInputError, match="read by others"):
        read(TokenPins(f"file:{pin_file}", refused=None))


def test_the_systemd_credential_counts_where_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / CREDENTIAL).touch(mode=0o440)  # as systemd's access list shows
    (tmp_path / CREDENTIAL).write_text("123456")
    assert read(TokenPins("", refused=None)) == "123456"


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("123456\n"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(NotFoundError, match="nothing says the PIN") as caught:
        read(TokenPins("", refused=None))
    assert CREDENTIAL in str(caught.value.hint)


def test_who_sits_at_a_terminal_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "123456"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", answer)
    pins = TokenPins("", refused=None)
    assert [read(pins), read(pins)] == ["123456", "123456"]
    assert asked == ["PIN of the token fleet: "]
    pins.refuse(pins.read("fleet", serial="01"), serial="01")
    read(pins)
    assert len(asked) == 2  # what was typed and refused is not kept


def test_a_refused_pin_is_remembered_over_restarts_as_a_hash(pin_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "refused" / "one"
    pins = TokenPins(f"file:{pin_file}", refused=place)
    pins.refuse(pins.read("fleet", serial="01"), serial="01")
    assert b"123456" not in place.read_bytes()
    assert place.stat().st_mode & 0o077 == 0
    again = TokenPins(f"file:{pin_file}", refused=place)
    with pytest.raises(BadInputError, match="not tried again"):
        read(again)
    assert again.read("fleet", serial="02").reveal() == "123456"  # another token may have it
    pin_file.write_text("654321\n")
    assert read(again) == "654321"
    again.accept()
    assert not place.exists()


def test_a_descriptor_is_read_once_and_closed() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"123456\nmore")
    os.close(writing)
    pins = TokenPins(f"fd:{reading}", refused=None)
    assert [read(pins), read(pins)] == ["123456", "123456"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


@pytest.mark.parametrize("source", ["fd:", "fd:-1", "fd:2", "fd:x", "relative", "file:relative"])
def test_a_source_that_is_none_is_told(source: str) -> None:
    with pytest.raises(FleetError):
        read(TokenPins(source, refused=None))
