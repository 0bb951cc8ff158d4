"""Real agents on a live fleet, as many as a test wants."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment
from device_agent.config import Settings
from device_agent.wire.identity import Identity
from fleet.ra.people.claims import CodeOrder, create_codes
from tests.live import LiveFleet


async def enrolled(fleet: LiveFleet, stack: AsyncExitStack, device_id: str) -> Agent:
    """Return the agent of a device that has its certificate, and is not connected."""
    identity = Identity(domain="prod", device_id=device_id)
    order = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
    (made,) = await create_codes(fleet.context, order)
    claim = fleet.home.home.public_claim("prod")
    folder = fleet.folder / f"device-{device_id}"
    settings = Settings(state=folder, first_wait=timedelta(milliseconds=100))
    agent = stack.enter_context(Agent.opened(settings))
    await agent.enroll_mqtt(
        MqttEnrollment(
            host="localhost",
            port=fleet.context.endpoints.mqtt_bootstrap_port,
            device_id=device_id,
            trust_pem=fleet.home.home.server_trust.read_text(),
            claim=ClaimFiles(certificate=claim.certificate, key=claim.key),
            code=made.code,
        )
    )
    return agent


@asynccontextmanager
async def a_fleet(fleet: LiveFleet, *names: str) -> AsyncIterator[Sequence[Agent]]:
    """Run agents, all connected."""
    async with AsyncExitStack() as stack:
        agents = [await enrolled(fleet, stack, name) for name in names]
        for agent in agents:
            await stack.enter_async_context(agent.connected())
            await agent.ready()
        yield agents
