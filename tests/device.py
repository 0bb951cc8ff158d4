"""One device and its server on a table, for tests: state folder, in-memory network, what enrollment takes."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment
from device_agent.channels.memory import Fault, MemoryNetwork
from device_agent.config import Settings
from device_agent.core.record import DeviceRecord
from device_agent.wire.secret import Secret
from tests.provisioner import CODE, Provisioner


def serials_in(life: DeviceRecord) -> frozenset[str]:
    """Return the serials of the certificates that a device holds in its slots."""
    pending = None if life.pending is None else life.pending.credential
    return frozenset(slot.serial for slot in (life.active, pending) if slot is not None)


@dataclass(kw_only=True)
class Table:
    """Everything but the agent, which each test opens as often as it likes."""

    folder: Path
    server: Provisioner = field(default_factory=Provisioner)
    plan: Iterable[Fault] = ()
    ahead: timedelta = timedelta()
    """How far the device's clock is ahead."""

    def __post_init__(self) -> None:
        self.network = MemoryNetwork(self.server, plan=iter(self.plan))
        certificate, key = self.server.pki.claim().write(self.folder, "claim")
        self.claim = ClaimFiles(certificate=certificate, key=key)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def settings(self) -> Settings:
        return Settings(state=self.state, patience=timedelta(), first_wait=timedelta())

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def agent(self) -> AbstractContextManager[Agent]:
        return Agent.opened(self.settings, ways=self.network, clock=self.clock)

    def enrollment(self, *, device_id: str = "d1", code: str = CODE) -> MqttEnrollment:
        return MqttEnrollment(
            host="localhost",
            port=8884,
            device_id=device_id,
            trust_pem=self.server.trust_pem,
            claim=self.claim,
            code=Secret(code),
        )

    async def enroll(self) -> None:
        with self.agent() as agent:
            await agent.enroll_mqtt(self.enrollment())
