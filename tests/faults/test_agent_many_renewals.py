"""Renewals in a row on a line that fails: each ends, and one certificate is left."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

from device_agent.channels.memory import Fault
from device_agent.core.lifecycle import State
from device_agent.errors import AgentError
from fleet.model import CertificateState
from tests.device import Table, serials_in

RENEWALS = int(os.environ.get("FAULT_RENEWALS", "200"))
"""`make faults` does a thousand."""
AGENT_RUNS = 20
MOST_TRIES = 100


def by_chance(chance: Random) -> Iterator[Fault]:
    """Let every third request meet a fault."""
    while True:
        yield chance.choice(list(Fault)) if chance.random() < 1 / 3 else Fault.NONE


async def test_many_renewals_in_a_row_on_a_failing_line_leave_one_live_certificate(tmp_path: Path) -> None:
    table = Table(folder=tmp_path)
    await table.enroll()
    table.network.follow(by_chance(Random(1)))
    for _ in range(AGENT_RUNS):
        with table.agent() as agent:
            for _ in range(RENEWALS // AGENT_RUNS):
                before, tries = agent.status().serial, 0
                while agent.status().serial == before:
                    tries += 1
                    assert tries < MOST_TRIES
                    try:
                        await agent.renew_once()
                    except AgentError:
                        assert serials_in(agent.record.life) & table.server.live
    table.network.follow(iter(()))
    with table.agent() as agent:
        status = await agent.renew_once()
    assert status.state == State.SETTLED
    assert table.server.live == {status.serial}
    active = [one for one, state in table.server.states().items() if state is CertificateState.ACTIVE]
    assert active == [status.serial]
    assert len(list((table.state / "keys").iterdir())) == 1
