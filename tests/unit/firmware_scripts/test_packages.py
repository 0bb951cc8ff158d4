"""The agent's packages: the same bytes each time, dated by the build, with the agent and no server."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent import __version__
from firmware_scripts.packages.__main__ import main
from firmware_scripts.packages.dated_build import UndatedError, dated, moment_of_build
from firmware_scripts.packages.tree import ROOT
from firmware_scripts.packages.wheel import version

MOMENT = 1790000000
NAMES = {
    "wheel": f"fleet_device_agent-{version()}-py3-none-any.whl",
    "zipapp": "device-agent.pyz",
    "deb": f"device-agent_{version()}_all.deb",
}
OFFSET = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the packages, built as a user would."""
    return build(tmp_path_factory.mktemp("built"), umask=0o022, zone="UTC")


def build(folder: Path, *, umask: int, zone: str) -> Path:
    kinds = [kind for kind in NAMES if kind != "deb" or Path("/usr/bin/dpkg-deb").exists()]
    subprocess.run(
        [sys.executable, "-m", "firmware_scripts.packages", "--output", folder, *kinds],
        cwd=ROOT, env={**os.environ, "SOURCE_DATE_EPOCH": str(MOMENT), "TZ": zone}, umask=umask, check=True,
    )  # fmt: skip
    return folder


def read(deb: Path, *what: str) -> str:
    return subprocess.run(["dpkg-deb", *what, deb], capture_output=True, text=True, check=True).stdout


def test_two_builds_are_the_same_bytes_whatever_the_umask_and_the_zone(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path, umask=0o077, zone="Asia/Tokyo")
    for package in built.iterdir():
        assert package.read_bytes() == (again / package.name).read_bytes(), package.name


@pytest.mark.parametrize("kind", ["wheel", "zipapp"])
def test_an_archive_holds_the_agent_with_the_builds_moment_and_nothing_of_the_server(
    built: Path, kind: str
) -> None:
    with zipfile.ZipFile(built / NAMES[kind]) as archive:
        names = archive.namelist()
        assert f"fromtimestamp({MOMENT}, UTC)" in archive.read("device_agent/released.py").decode()
    assert "device_agent/core/lifecycle.py" in names
    assert not [name for name in names if name.startswith(("fleet/", "firmware_scripts/", "tests/"))]


def test_the_zipapp_runs_without_anything_of_this_tree(built: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", built / NAMES["zipapp"], "--state", tmp_path / "none", "status"]
    ran = subprocess.run(command, cwd=tmp_path, env=OFFSET, capture_output=True, text=True, check=True)
    assert "enrolled      no" in ran.stdout


def test_the_zipapp_says_what_is_missing_where_cryptography_is(built: Path, tmp_path: Path) -> None:
    # -S leaves the site-packages out, and with them the one library that is compiled.
    command = [sys.executable, "-I", "-S", built / NAMES["zipapp"], "status"]
    ran = subprocess.run(command, cwd=tmp_path, env=OFFSET, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "hint: apt-get install python3-cryptography" in ran.stderr


@pytest.mark.needs("dpkg-deb")
def test_the_debian_package_keeps_its_settings_and_brings_its_units(built: Path) -> None:
    deb = built / NAMES["deb"]
    listing = read(deb, "--contents")
    assert read(deb, "--field").splitlines()[:2] == ["Package: device-agent", f"Version: {version()}"]
    assert "./usr/lib/systemd/system/device-agent.service" in listing
    assert "./usr/share/device-agent/aiomqtt/client.py" in listing
    assert "./usr/share/doc/device-agent/examples/tpm.conf" in listing
    assert "./usr/share/device-agent/cryptography" not in listing
    assert {line.split()[1] for line in listing.splitlines()} == {"root/root"}
    assert read(deb, "--info").count(" *  p") == len(["postinst", "prerm", "postrm"])


def test_the_agent_says_the_version_of_its_package() -> None:
    assert __version__ == version()


@given(st.integers(315532800, 4102444800))
def test_a_build_dates_the_module_that_the_source_has(moment: int) -> None:
    source = (ROOT / "device_agent/released.py").read_text()
    found: dict[str, object] = {}
    exec(dated(source, moment), found)
    assert getattr(found["RELEASED"], "timestamp")() == moment  # noqa: B009 - its type is the module's own


def test_a_module_without_the_line_is_not_dated() -> None:
    with pytest.raises(ValueError, match="not one line"):
        dated("RELEASED = None\n", MOMENT)


@pytest.mark.parametrize(
    ("told", "why"), [("soon", "nothing dates"), ("-1", "nothing dates"), (str(2**40), "in the future")]
)
def test_a_moment_that_cannot_be_a_builds_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, why: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", told)
    with pytest.raises(UndatedError, match=why):
        moment_of_build(tmp_path)


def test_without_a_moment_it_is_that_of_the_newest_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with pytest.raises(UndatedError, match="nothing dates"):
        moment_of_build(tmp_path)
    git = ("git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example")
    subprocess.run([*git, "init", "-q"], check=True)
    when = {**os.environ, "GIT_COMMITTER_DATE": f"@{MOMENT} +0000"}
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "t"], env=when, check=True)
    assert moment_of_build(tmp_path) == MOMENT < time.time()


def test_an_unknown_kind_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rpm", "--output", str(tmp_path / "out")]) == 6
    assert "rpm" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
