"""The demo's devices that enroll over the network, with one-time codes, on the bootstrap listener."""

import asyncio

from fleet.cli.demo.scene import DOMAIN, OTHER_DOMAIN, Actor, Scene, require

_UNITS = 4
STRANGER = "visitor"
"""A device of the other domain."""


async def enroll_by_network(scene: Scene) -> str:
    """Give each device a code, and have each enroll with it."""
    units = [scene.device(f"sensor-{number}") for number in range(1, _UNITS + 1)]
    await _enroll(scene, units, DOMAIN)
    scene.devices += units
    return f"{_UNITS} devices, each with a one-time code of its own"


async def enroll_stranger(scene: Scene) -> Actor:
    """Enroll a device of the other domain."""
    stranger = scene.device(STRANGER, domain=OTHER_DOMAIN)
    await _enroll(scene, [stranger], OTHER_DOMAIN)
    return stranger


async def _enroll(scene: Scene, units: list[Actor], domain: str) -> None:
    wanted = [word for unit in units for word in ("--device", unit.device_id)]
    made = (await scene.fleet("claim", "create", "--domain", domain, *wanted, "--json", name="claim")).json()
    require(isinstance(made, list) and len(made) == len(units), "there is not a code for each device")
    codes = (
        {str(new["device_id"]): str(new["code"]) for new in made if isinstance(new, dict)}
        if isinstance(made, list)
        else {}
    )
    async with asyncio.TaskGroup() as group:
        for unit in units:
            group.create_task(_enroll_one(scene, unit, codes[unit.device_id]))


async def _enroll_one(scene: Scene, unit: Actor, code: str) -> None:
    claim = scene.home.public_claim(unit.domain)
    await scene.agent(
        unit,
        *("enroll", "--mqtt", f"localhost:{scene.ports['mqtt_bootstrap']}", "--device", unit.device_id),
        *("--code-file", "-", "--claim", f"{claim.certificate},{claim.key}"),
        *("--trust", scene.home.server_trust),
        stdin=f"{code}\n",
    )
    scene.tell(f"{unit.device_id}: enrolled")
