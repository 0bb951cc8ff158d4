"""The demo's factory line: a real station and real agents on the two ends of serial ptys.

One line turns bits over, one unit loses its power half-way and goes on, and a real port may be among them.
"""

import asyncio
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from fleet.cli.demo import microcontroller
from fleet.cli.demo.programs import Running, command
from fleet.cli.demo.scene import Actor, Scene, require
from fleet.errors import FleetError
from fleet.station.link.cable import Cable
from fleet.station.telling.events import Stage

NOISE = 2e-4
"""Probability that a bit arrives turned over: about every fourth message does not get through."""
_NOISY, _CUT = 1, 2
_UNITS = 4
_MOVING = frozenset({Stage.ISSUED, Stage.WRITING, Stage.INSTALLED})
_DONE = frozenset({Stage.SYNCED})


@dataclass(slots=True)
class _Line:
    """What the station reports, by port."""

    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    stages: dict[str, set[Stage]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    octets: dict[str, int] = field(default_factory=dict)
    """How many bytes a unit took, both ways."""

    async def follow(self, station: Running) -> None:
        """Take the station's events in until it ends."""
        async for text in station.lines():
            event = json.loads(text)
            async with self.news:
                stage = Stage(event["stage"])
                self.stages.setdefault(event["port"], set()).add(stage)
                if stage in _DONE:
                    self.ids[event["port"]] = event["device_id"]
                    self.octets[event["port"]] = event["wire_bytes"]
                self.news.notify_all()

    async def until(self, port: str, stages: frozenset[Stage]) -> None:
        """Wait until a port was in one of these stages; a quarantined unit will never be."""
        async with self.news:
            await self.news.wait_for(
                lambda: self.stages.get(port, set()) & (stages | {Stage.QUARANTINED}) != set()
            )
        if Stage.QUARANTINED in self.stages[port] and not self.stages[port] & stages:
            raise FleetError(f"the unit on {port} was quarantined")


async def enroll_by_serial(scene: Scene) -> str:
    """Run a station with a unit on each of its ports until all have their certificates."""
    units = [scene.device(f"press-{number}") for number in range(1, _UNITS + 1)]
    with ExitStack() as stack:
        cables = [
            stack.enter_context(Cable(noise=NOISE if place == _NOISY else 0.0, seed=place))
            for place in range(_UNITS)
        ]
        spare = stack.enter_context(Cable())
        ports = [cable.station_port for cable in cables]
        others = [spare.station_port, *([scene.port] if scene.port else [])]
        station = await _start_station(scene, [*ports, *others])
        line = _Line()
        async with asyncio.TaskGroup() as group:
            following = group.create_task(line.follow(station))
            waits = [
                group.create_task(_serve(scene, line, unit, cable=cable, is_cut=place == _CUT))
                for place, (unit, cable) in enumerate(zip(units, cables, strict=True))
            ]
            if scene.port:
                waits.append(group.create_task(_await_real_device(scene, line, scene.port)))
            chip = group.create_task(_serve_microcontroller(scene, line, spare))
            await asyncio.gather(*waits)
            has_chip = await chip
            await station.end()
            await following
        if has_chip:
            await microcontroller.visit(scene, spare.station_port)
    clean, noisy = line.octets[ports[0]], line.octets[ports[_NOISY]]
    require(noisy > clean, "nothing was repeated on the noisy line")
    await _one_certificate(scene, units[_CUT])
    scene.devices += units
    real = f", and {line.ids[scene.port]} on {scene.port}" if scene.port else ""
    chip_id = f", and the microcontroller {line.ids[spare.station_port]}" if has_chip else ""
    return (
        f"{_UNITS} devices{chip_id}{real}; one through line noise ({noisy} bytes for {clean}), one cut off"
        " half-way and run again"
    )


async def _start_station(scene: Scene, ports: list[str]) -> Running:
    options = [word for port in ports for word in ("--port", port)]
    words = ("station", "run", "--jsonl", "--prefix", microcontroller.ID_PREFIX, *options)
    return await scene.programs.start(command("fleet"), "--home", scene.home.root, *words, name="station")


async def _serve(scene: Scene, line: _Line, unit: Actor, *, cable: Cable, is_cut: bool) -> None:
    agent = await _plug_in(scene, unit, cable.device_port)
    if is_cut:
        await line.until(cable.station_port, _MOVING)
        await agent.kill()
        require(agent.process.returncode != 0, f"{unit.device_id} was done before its power was cut")
        scene.tell(f"{unit.device_id}: power cut while its certificate was on the way; it is started again")
        agent = await _plug_in(scene, unit, cable.device_port)
    done = await agent.finish()
    require(done.code == 0, f"{unit.device_id} did not enroll, see {done.log}")
    await line.until(cable.station_port, _DONE)
    scene.tell(f"{unit.device_id}: enrolled")


async def _serve_microcontroller(scene: Scene, line: _Line, cable: Cable) -> bool:
    """Return whether this machine has one to plug in; it is enrolled then."""
    if not await microcontroller.plug_in(scene, cable.device_port):
        return False
    await line.until(cable.station_port, _DONE)
    scene.tell(f"{line.ids[cable.station_port]}: a microcontroller in QEMU, enrolled")
    return True


async def _plug_in(scene: Scene, unit: Actor, port: str) -> Running:
    return await scene.programs.start(
        *(command("device-agent"), "--state", unit.state, "enroll", "--serial", port),
        *("--device", unit.device_id, "--hardware-id", f"demo-{unit.device_id}"),
        *("--trust", scene.home.server_trust),
        name=f"{unit.device_id}-enroll",
    )


async def _await_real_device(scene: Scene, line: _Line, port: str) -> None:
    scene.tell(f"waiting for a device on {port}")
    await line.until(port, _DONE)
    scene.tell(f"{line.ids[port]}: enrolled on {port}")


async def _one_certificate(scene: Scene, unit: Actor) -> None:
    """A unit that was interrupted goes on with what it had: the station asks for no second certificate."""
    listing = ("cert", "list", "--device", unit.name, "--purpose", "device", "--json")
    found = (await scene.fleet(*listing, name="cert-list")).json()
    count = len(found) if isinstance(found, list) else 0
    require(count == 1, f"{unit.device_id} was interrupted once and has {count} certificates")


def is_port(path: str) -> bool:
    """Return whether a path can be a serial port."""
    return Path(path).is_char_device()
