"""Where the demo plays: its folder, its fleet, its devices, and the commands that everybody uses."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from fleet.cli.demo.programs import Finished, Programs, Running, command
from fleet.cli.demo.witness import Witness
from fleet.errors import FleetError
from fleet.home import Home

DOMAIN = "prod"
OTHER_DOMAIN = "lab"


@dataclass(slots=True, kw_only=True)
class Actor:
    """A device of the demo."""

    device_id: str
    state: Path
    domain: str = DOMAIN
    application: Running | None = None

    @property
    def name(self) -> str:
        """What the broker calls it."""
        return f"{self.domain}:{self.device_id}"

    @property
    def current(self) -> Path:
        """The folder of its key and certificate."""
        return self.state / "current"


@dataclass(slots=True, kw_only=True)
class Scene:
    """All that the steps share."""

    folder: Path
    programs: Programs
    stack: AsyncExitStack
    """Ends what the steps began, before the programs end."""
    tell: Callable[[str], None]
    """Says what happens in the running step."""
    port: str | None = None
    ports: dict[str, int] = field(default_factory=dict)
    devices: list[Actor] = field(default_factory=list)
    witness: Witness | None = None

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    def device(self, device_id: str, *, domain: str = DOMAIN) -> Actor:
        """Return a new device with a state folder of its own."""
        return Actor(device_id=device_id, state=self.folder / "devices" / device_id, domain=domain)

    async def fleet(self, *words: str | Path, name: str, code: int | None = 0) -> Finished:
        """Run a `fleet` command on this home."""
        return await self.programs.run(
            command("fleet"), "--home", self.home.root, *words, name=name, code=code
        )

    async def agent(self, actor: Actor, *words: str | Path, stdin: str | None = None) -> Finished:
        """Run a `device-agent` command as a device."""
        name = f"{actor.device_id}-{words[0]}"
        return await self.programs.run(
            command("device-agent"), "--state", actor.state, *words, name=name, stdin=stdin
        )

    async def status(self, actor: Actor) -> dict[str, str]:
        """Return what a device says of itself: the members that are text."""
        done = await self.agent(actor, "status", "--json")
        return {name: value for name, value in done.members().items() if isinstance(value, str)}

    def read_endpoints(self) -> None:
        """Learn the ports that the server has picked."""
        found = json.loads(self.home.endpoints.read_text())
        self.ports = {name: int(place["port"]) for name, place in found.items()}

    @property
    def seen(self) -> Witness:
        """The witness, who must have been called."""
        if self.witness is None:
            raise FleetError("nobody watches the broker yet")
        return self.witness


def require(proven: bool, message: str) -> None:
    """Fail the step unless something is so; raises `FleetError`."""
    if not proven:
        raise FleetError(message)
