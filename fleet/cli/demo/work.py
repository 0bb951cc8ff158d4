"""The demo's devices at work: connected, sending, answering, and given new certificates meanwhile."""

import asyncio
import sys

from fleet.cli.demo.scene import Actor, Scene, require
from fleet.errors import FleetError

_APPLICATION = "firmware_scripts.linux.application"
_PINGS_A_SECOND = 5
_LAST_WORDS_SECONDS = 15.0


async def connect_all(scene: Scene) -> str:
    """Start an application on each device; a message goes each way."""
    async with asyncio.TaskGroup() as group:
        for device in scene.devices:
            group.create_task(start(scene, device))
    async with asyncio.TaskGroup() as group:
        for device in scene.devices:
            group.create_task(_exchange(scene, device))
    names = await live(scene)
    missing = [device.name for device in scene.devices if device.name not in names]
    require(not missing, f"not connected: {', '.join(missing)}")
    return f"{len(scene.devices)} live sessions, a message each way on every one"


async def start(scene: Scene, device: Actor) -> None:
    """Start the application of a device, wait until it is connected."""
    device.application = await scene.programs.start(
        *(sys.executable, "-m", _APPLICATION, "--state", device.state), name=f"{device.device_id}-application"
    )
    line = await device.application.line()
    require(line == "ready", f"the application of {device.device_id} said {line!r} instead of ready")
    scene.tell(f"{device.device_id}: connected")


async def _exchange(scene: Scene, device: Actor) -> None:
    await scene.seen.ping(device.name, "hello")
    await scene.seen.until_pong(device.name, "hello")
    await scene.seen.until_readings(device.name, 1)


async def rotate_all(scene: Scene) -> str:
    """Renew every certificate while messages go both ways; then count them all."""
    before = {device.name: (await scene.status(device))["serial"] for device in scene.devices}
    pings = {device.name: 0 for device in scene.devices}
    renewed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for device in scene.devices:
            group.create_task(_ping_until(renewed, scene, device, pings))
        await asyncio.gather(*(_renew(scene, device) for device in scene.devices))
        renewed.set()
    readings = [await _count(scene, device, pings[device.name]) for device in scene.devices]
    await _require_new(scene, before)
    repeated = sum(scene.seen.of(device.name).repeated for device in scene.devices)
    return (
        f"{len(before)} new keys and certificates; of {sum(readings)} messages from devices and "
        f"{sum(pings.values())} to them none was lost, {repeated} came twice"
    )


async def _ping_until(renewed: asyncio.Event, scene: Scene, device: Actor, pings: dict[str, int]) -> None:
    """Ping a device again and again, whether it is connected just now or not.

    It is told to end, not cancelled: asyncio.wait_for, which aiomqtt uses, may swallow a cancellation on
    Python 3.11 (python/cpython#86296).
    """
    while not renewed.is_set():
        await scene.seen.ping(device.name, f"p{pings[device.name] + 1}")
        pings[device.name] += 1
        await asyncio.sleep(1 / _PINGS_A_SECOND)


async def _renew(scene: Scene, device: Actor) -> None:
    await scene.agent(device, "renew")
    scene.tell(f"{device.device_id}: renewed")


async def _count(scene: Scene, device: Actor, pings: int) -> int:
    """Wait for every answer and every reading; what does not come in time is lost, and fails the step."""
    heard = scene.seen.of(device.name)
    readings = 0
    try:
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            await scene.seen.ping(device.name, "count")
            readings = await scene.seen.until_pong(device.name, "count")
            await scene.seen.until_readings(device.name, readings)
            for number in range(1, pings + 1):
                await scene.seen.until_pong(device.name, f"p{number}")
    except TimeoutError as error:
        unanswered = [number for number in range(1, pings + 1) if f"p{number}" not in heard.pongs]
        missing = sorted(set(range(1, readings + 1)) - heard.readings)
        raise FleetError(
            f"{device.device_id} lost messages: no answer to pings {unanswered or 'none'}, of {pings}; "
            f"missing readings {missing or 'none'}, of {readings}"
        ) from error
    return readings


async def _require_new(scene: Scene, before: dict[str, str]) -> None:
    sessions = await live(scene)
    for device in scene.devices:
        serial = (await scene.status(device))["serial"]
        require(serial != before[device.name], f"{device.device_id} has the same certificate as before")
        require(sessions.get(device.name) == serial, f"{device.device_id} is not connected with its new one")


async def live(scene: Scene) -> dict[str, str]:
    """Return the live sessions: the serial of each, by name."""
    found = (await scene.fleet("broker", "sessions", "--json", name="broker-sessions")).json()
    items = found if isinstance(found, list) else []
    return {str(one["name"]): str(one["serial"]) for one in items if isinstance(one, dict)}
