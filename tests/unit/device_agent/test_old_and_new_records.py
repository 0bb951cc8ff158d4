"""An agent goes on with what older releases have written, and leaves a newer one's record as it is."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent import __version__
from device_agent.cli import main
from device_agent.core.stored import VERSION, decode, encode
from device_agent.errors import StateError
from tests.device import Table
from tests.device_records import golden, shown

RECORDS = [(release, name) for release, named in golden().items() for name in named]


def text_of(release: str, name: str) -> bytes:
    return str(golden()[release][name]["text"]).encode()


def members(record: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(record.partition(b"\n")[2])
    return found


def files(folder: Path) -> dict[str, str]:
    """Return all files below a folder with their digests, links with where they lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def of_the_future(record: bytes) -> bytes:
    """Return a record as a later release could write it: another version, and a member that nobody knows."""
    body = json.dumps({**members(record), "hologram": {"key": "k-9"}}).encode()
    return f"fleet-device-record {VERSION + 1} {hashlib.sha256(body).hexdigest()}\n".encode() + body + b"\n"


@pytest.mark.parametrize(("release", "name"), RECORDS)
def test_the_record_of_a_release_is_read_as_it_was_meant(release: str, name: str) -> None:
    assert shown(decode(text_of(release, name))) == golden()[release][name]["shown"]


@pytest.mark.parametrize(("release", "name"), RECORDS)
def test_what_a_release_wrote_is_written_in_its_words_again(release: str, name: str) -> None:
    """So the agent before this one reads it, when the system is rolled back."""
    text = text_of(release, name)
    again = encode(decode(text))
    assert again.split(b" ")[1] == text.split(b" ")[1]
    assert members(text).items() <= members(again).items()


def test_this_release_has_its_records_kept() -> None:
    assert __version__ in golden(), "run: python -m tests.device_records"


async def test_a_newer_agents_record_is_left_alone_with_all_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(folder=tmp_path)
    await table.enroll()
    record = table.state / "record"
    known = record.read_bytes()
    record.write_bytes(of_the_future(known))
    before = files(table.state)

    acts: list[Callable[[], object]] = [
        lambda: main(["--state", str(table.state), "status"]),
        lambda: main(["--state", str(table.state), "trust"]),
    ]
    for act in acts:
        assert act() == 1
        assert "hint: use the newer agent, nothing was changed" in capsys.readouterr().err
    with pytest.raises(StateError, match=f"version {VERSION + 1}"), table.agent():
        pass
    assert files(table.state) == before

    record.write_bytes(known)
    with table.agent() as agent:
        assert agent.status().enrolled


async def test_a_newer_record_before_the_last_one_keeps_its_keys(tmp_path: Path) -> None:
    """The older agent may have written since: the keys of the newer one's slot are still none of its own."""
    table = Table(folder=tmp_path)
    await table.enroll()
    (table.state / "record.previous").write_bytes(of_the_future((table.state / "record").read_bytes()))
    strange = table.state / "keys/k-9"
    strange.write_bytes(b"a key that only the newer agent knows")
    with table.agent() as agent:
        await agent.renew_once()
    assert strange.exists()


def test_a_record_names_its_version_before_anything_else() -> None:
    for release, name in RECORDS:
        assert re.match(rb"fleet-device-record [0-9]+ [0-9a-f]{64}\n", text_of(release, name))
