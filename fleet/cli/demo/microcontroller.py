"""The demo's microcontroller: the reference firmware in QEMU, on a lane of its own at the same station.

It plays where this machine can build and run it; elsewhere one line says what is missing.
"""

import shutil
import sys
from pathlib import Path

from fleet.cli.demo.programs import tail
from fleet.cli.demo.scene import Scene, require

HARDWARE_ID = "demo-mcu"
ID_PREFIX = "mcu-"
"""The firmware has no wish: the station gives it an id that begins so."""

_SCRIPT = (sys.executable, "-m", "firmware_scripts.mcu")
_PROGRAMS = ("qemu-system-arm", "cargo")


async def plug_in(scene: Scene, port: str) -> bool:
    """Let the firmware run at this end of a cable; return whether this machine could.

    Raises:
        FleetError: it can build the firmware, and not run it.
    """
    firmware = await _built(scene)
    if firmware is None:
        return False
    flash = scene.folder / "devices" / "mcu.flash"
    passport = ("--hardware-id", HARDWARE_ID, "--trust", scene.home.server_trust, "--output", flash)
    await scene.programs.run(*_SCRIPT, "passport", *passport, name="mcu-passport")
    place = ("--firmware", firmware, "--flash", flash, "--port", port)
    await scene.programs.start(*_SCRIPT, "run", *place, name="mcu")
    return True


async def visit(scene: Scene, port: str) -> None:
    """Let a gateway carry what the firmware has to say: its own signature, all the way to the server."""
    done = await scene.fleet("station", "carry", "--port", port, "--json", name="mcu-gateway")
    found = done.json()
    outcome = found[0] if isinstance(found, list) and found else {}
    is_heard = isinstance(outcome, dict) and outcome.get("outcome") == "current"
    require(is_heard, f"the server did not hear the microcontroller: {done.output}")


async def _built(scene: Scene) -> Path | None:
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        scene.tell(f"no microcontroller on the line: {' and '.join(missing)} not installed")
        return None
    scene.tell("building the firmware of a microcontroller; the first time takes half a minute")
    firmware = scene.folder / "firmware.elf"
    done = await scene.programs.run(*_SCRIPT, "build", "--output", firmware, name="mcu-build", code=None)
    if done.code != 0:
        scene.tell(f"no microcontroller on the line: {tail(done.log).removeprefix('error: ')}")
        return None
    return firmware
