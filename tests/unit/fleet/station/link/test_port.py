"""What can never become a serial port is told at the start, not waited for."""

import os
from pathlib import Path

import pytest

from fleet.errors import BadInputError
from fleet.station.link.port import require_port


def test_a_file_and_the_null_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", Path("/dev/null")):
        with pytest.raises(BadInputError, match="is not a serial port"):
            require_port(str(path))


def test_a_port_that_is_not_plugged_in_yet_is_waited_for(tmp_path: Path) -> None:
    require_port(str(tmp_path / "ttyUSB7"))


def test_a_terminal_line_is_a_port() -> None:
    leader, follower = os.openpty()
    try:
        require_port(os.ttyname(follower))
    finally:
        os.close(leader)
        os.close(follower)
