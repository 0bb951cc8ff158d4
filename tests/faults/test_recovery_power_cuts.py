"""Power is cut at each call that writes while a device finds out what it needs, and comes back by a code."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.core.ladder import Rung
from device_agent.errors import AgentError
from device_agent.recovering import Recovery
from device_agent.wire.secret import Secret
from fleet.core import events
from tests.device import Table
from tests.faults.test_agent_power_cuts import SEEDS, ways_to_lose
from tests.power import PowerCutError, Unsynced, disk
from tests.provisioner import Provisioner

CODE = "SECN-DCDE-2222-2222"


async def lapsed(folder: Path) -> Table:
    """Return a device whose certificate and grace are over, and for which a code lies ready."""
    folder.mkdir()
    table = Table(folder=folder, server=Provisioner())
    table.server.lifetime = timedelta(hours=2)
    await table.enroll()
    table.server.lifetime = timedelta(days=20)
    (serial,) = table.server.live
    table.server.expire(serial)
    table.server.act(events.GraceOver(serial=serial))
    table.server.hand_out(CODE)
    table.ahead = timedelta(hours=2)
    return table


async def come_back(table: Table) -> None:
    """Do what the agent and its operator do: find out what is needed, then give it."""
    with table.agent() as agent:
        if agent.record.life.proof is None:
            try:
                await agent.renew_once()
            except AgentError:
                assert agent.status().rung == Rung.CODE
            else:
                return
        await agent.recover_once(Recovery(code=Secret(CODE)))


def some_ways_to_lose(calls: int) -> Iterator[tuple[int, Unsynced, int]]:
    """Yield a cut at each write, with what may become of it by turns; `make faults` tries each with each."""
    for number, way in enumerate(ways_to_lose(calls)):
        cut_at, fate = divmod(number, 2 + SEEDS)
        if SEEDS > 1 or fate == cut_at % (2 + SEEDS):
            yield way


async def test_after_a_cut_at_any_write_a_recovery_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, cuts = await lapsed(tmp_path / "whole"), 0
    with disk(monkeypatch, table.folder) as whole:
        await come_back(table)
    for cut_at, unsynced, seed in some_ways_to_lose(whole.calls):
        table = await lapsed(tmp_path / f"cut-{cut_at}-{unsynced.name}-{seed}")
        with (
            disk(monkeypatch, table.folder, cut_at=cut_at, unsynced=unsynced, seed=seed),
            pytest.raises(PowerCutError),
        ):
            await come_back(table)
        await come_back(table)
        with table.agent() as agent:
            status = agent.status()
            assert (status.name, status.rung, status.pending) == ("prod:d1", Rung.CERTIFICATE, False)
        assert table.server.live == {status.serial}
        assert not table.server.device.code_conflict
        cuts += 1
    with capsys.disabled():
        print(f" {cuts} cuts at {whole.calls} writes of recovery", end="")
    assert cuts >= 100
