"""Shares go from the terminal to people and back: one at a time, without an echo, never through a pipe."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import BIN, copy_home, environment

CLEAR = b"\x1b[2J"
WORDS = re.compile(rb"(?:[a-z]+ ){32}[a-z]+")


@pytest.fixture
def folder(made_home: Path, tmp_path: Path) -> Path:
    copy_home(made_home, tmp_path)
    return tmp_path


class Terminal:
    """A command on a terminal of its own; its stdout is piped, as in a script."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [BIN / "fleet", *arguments],
            cwd=folder,
            env=environment(folder),
            stdin=slave,
            stderr=slave,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(slave)

    def until(self, words: bytes) -> bytes:
        """Return what the terminal shows, up to some words."""
        seen = b""
        while words not in seen:
            seen += os.read(self._master, 4096)
        return seen

    def type(self, line: bytes) -> None:
        os.write(self._master, line + b"\n")

    def end(self) -> tuple[bytes, int]:
        """Return what was piped, and the exit code."""
        out, _ = self._process.communicate(timeout=60)
        os.close(self._master)
        return out, self._process.returncode


def test_each_share_is_shown_alone_and_asked_for_without_an_echo(folder: Path) -> None:
    backing_up = Terminal(folder, "ca", "backup", "one.backup")
    shares = []
    for number in (1, 2, 3):
        shown = backing_up.until(b"press Enter: ")
        assert shown.count(CLEAR) >= 1
        assert b"share %d of 3, any 2 of which open it" % number in shown
        (share,) = WORDS.findall(shown)
        shares.append(share)
        backing_up.type(b"")
    out, code = backing_up.end()
    assert code == 0
    assert len(set(shares)) == 3
    assert not WORDS.search(out)

    restoring = Terminal(folder, "ca", "restore", "one.backup", "--into", "new")
    assert b"2 shares are needed" in restoring.until(b"share 1 (not shown): ")
    restoring.type(shares[2])
    assert shares[2] not in restoring.until(b"share 2 (not shown): ")
    restoring.type(shares[0])
    assert shares[0] not in restoring.until(b"serve")
    assert restoring.end()[1] == 0
    assert (folder / "new/fleet.toml").exists()
