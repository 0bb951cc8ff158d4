"""`fleet audit tail --follow`: what happens is printed as it happens, over every restart of the server."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cli.conftest import BIN, copy_home, environment, served


def fleet(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "fleet", *arguments], env=environment(folder), capture_output=True, text=True, check=False
    )


@contextmanager
def following(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [BIN / "fleet", "audit", "tail", "--follow", "-n", "1", *options]
    with subprocess.Popen(
        command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as follower:
        yield follower
        follower.send_signal(signal.SIGINT)


def line_of(follower: subprocess.Popen[str]) -> str:
    assert follower.stdout is not None
    return follower.stdout.readline()


def test_who_follows_sees_the_last_entry_and_all_that_come(made_home: Path, tmp_path: Path) -> None:
    copy_home(made_home, tmp_path)
    with served(tmp_path), following(tmp_path, "--jsonl") as follower:
        first = json.loads(line_of(follower))["number"]
        fleet(tmp_path, "device", "register", "lab:one")
        fleet(tmp_path, "device", "register", "lab:two")
        seen = [json.loads(line_of(follower)) for _ in range(2)]
    assert [(entry["number"], entry["device_id"]) for entry in seen] == [
        (first + 1, "one"),
        (first + 2, "two"),
    ]


def test_a_server_that_is_started_again_is_followed_on(made_home: Path, tmp_path: Path) -> None:
    copy_home(made_home, tmp_path)
    with ExitStack() as stack:
        with served(tmp_path):
            follower = stack.enter_context(following(tmp_path))
            line_of(follower)
        with served(tmp_path):
            fleet(tmp_path, "device", "register", "lab:one")
            seen = line_of(follower)
            stack.close()
    assert "device.registered" in seen
    assert "operator:local  lab:one" in seen


def test_a_home_that_nobody_serves_is_not_listened_to(made_home: Path, tmp_path: Path) -> None:
    copy_home(made_home, tmp_path)
    found = fleet(tmp_path, "audit", "tail", "--follow")
    assert (found.returncode, found.stderr) == (
        5,
        "error: no server of this home runs, so nothing happens there\nhint: fleet serve\n",
    )


def test_a_list_without_an_end_is_no_json_document(made_home: Path, tmp_path: Path) -> None:
    copy_home(made_home, tmp_path)
    found = fleet(tmp_path, "audit", "tail", "--follow", "--json")
    assert (found.returncode, found.stdout) == (2, "")
