"""The demo as everybody runs it, and the three commands that it ends with."""

import json
import os
import re
import shlex
import subprocess
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from fleet.cli.demo.play import STEPS, last_words
from fleet.station.link.cable import Cable

BIN = Path(sys.executable).parent
WITHOUT_AGENT = """
from fleet.cli.demo import factory
from fleet.cli.demo.programs import command
factory.command = lambda name: "/bin/false" if name == "device-agent" else command(name)
from fleet.cli import main
main()
"""

WITH_A_CRASH = """
from fleet.cli.demo import founding, play
async def crash(scene):
    await scene.programs.running[-2].kill()
    raise OSError("the server was killed")
play.STEPS = (*play.STEPS[:2], play.Step(title="crash", act=crash))
from fleet.cli import main
main()
"""


def environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in {"FLEET_HOME", "DEVICE_AGENT_STATE"}
    }
    # The firmware of the microcontroller was built before, by its own tests.
    tools = {"CARGO_HOME": ".cargo", "RUSTUP_HOME": ".rustup", "XDG_CACHE_HOME": ".cache"}
    kept = {name: str(Path.home() / place) for name, place in tools.items()} | kept
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "TMPDIR": str(folder)}


async def test_every_step_is_proved_with_a_real_device_among_them(tmp_path: Path, short: Path) -> None:
    folder = short / "d"
    with Cable() as cable:
        device = await create_subprocess_exec(
            *(BIN / "device-agent", "--state", tmp_path / "real", "enroll", "--serial", cable.device_port),
            *("--device", "real-1", "--hardware-id", "real-1"),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        demo = await create_subprocess_exec(
            *(BIN / "fleet", "demo", "--keep", folder, "--port", cable.station_port, "--json"),
            env=environment(tmp_path),
            stdout=PIPE,
            stderr=PIPE,
        )
        output, errors = await demo.communicate()
        if device.returncode is None and demo.returncode != 0:
            device.kill()
        await device.wait()
    rows = json.loads(output)
    assert demo.returncode == 0, f"{rows[-1]}\n{errors.decode()}"
    assert [row["step"] for row in rows] == [step.title for step in STEPS]
    assert {row["result"] for row in rows} == {"ok"}
    assert "real-1 on /dev/" in rows[2]["proved"]
    assert "microcontroller mcu-" in rows[2]["proved"] or b"no microcontroller on the line" in errors
    assert (folder / "home/fleet.toml").exists()
    assert not (folder / "home/run/endpoints.json").exists()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: a socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("d")


def test_where_no_guard_can_be_built_the_embedded_broker_plays_and_is_named(short: Path) -> None:
    env = {**environment(short), "PATH": str(BIN)}  # no compiler: no guard, and no Mosquitto without it
    done = subprocess.run(
        [BIN / "fleet", "demo", "--json"], env=env, capture_output=True, text=True, check=False
    )
    rows = json.loads(done.stdout)
    assert done.returncode == 0, f"{rows[-1]}\n{done.stderr}"
    assert rows[1]["proved"].startswith("the embedded broker")


def test_a_step_that_fails_makes_the_demo_fail_and_says_where_the_logs_are(short: Path) -> None:
    """The agents end at once here, with exit code 1."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_AGENT, "demo"],
        env=environment(short),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"^error: factory line over serial: ", done.stderr, re.MULTILINE)
    (logs,) = re.findall(r"^hint: the logs are in (.*)$", done.stderr, re.MULTILINE)
    assert (Path(logs) / "station.log").exists()


def test_nothing_is_left_running_when_the_server_crashes(tmp_path: Path, short: Path) -> None:
    """A managed Mosquitto outlives its server on purpose; in the demo it must not."""
    folder = short / "d"
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_CRASH, "demo", "--keep", folder],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "error: crash: the server was killed" in done.stderr
    assert done.returncode == 1
    commands = [read_command(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert [command for command in commands if str(folder) in command] == []


def read_command(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def test_a_port_that_is_none_is_refused_before_anything_begins(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "fleet", "demo", "--port", tmp_path / "nothing"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (6, "")


def test_the_three_commands_make_a_fleet_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are printed where they are run, but for the ports: the default ones may be in use here."""
    monkeypatch.chdir(tmp_path)
    init, serve, enroll = (line.strip() for line in last_words(0.0, None)[-3:])
    where = {**environment(tmp_path), "HOME": str(tmp_path)}
    run(init, tmp_path, where)
    config = tmp_path / ".fleet/fleet.toml"
    config.write_text(
        re.sub(r"_port = \d+", "_port = 0", config.read_text()).replace("server = false", "server = true")
    )
    server = subprocess.Popen(
        shlex.split(serve), env=where, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    with server.stdout:
        try:
            assert server.stdout.readline() == "ready\n"
            places = json.loads((tmp_path / ".fleet/run/endpoints.json").read_text())
            output = run(enroll.replace("8884", str(places["mqtt_bootstrap"]["port"])), tmp_path, where)
            assert output.startswith("enrolled prod:d1, serial ")
            assert "d1" in run("fleet device list --standing active", tmp_path, where)
        finally:
            server.terminate()
            assert server.wait(30) == 0


def run(command: str, folder: Path, where: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"$ {command}\n{done.stderr}"
    return done.stdout
