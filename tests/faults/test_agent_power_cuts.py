"""Power is cut at each call that writes, through enrollment, renewal, trust and reset: nobody is stranded."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from device_agent.core.certificates import read_bundle, read_leaf
from device_agent.core.lifecycle import State, state_of
from device_agent.errors import AgentError
from device_agent.wire.requests import ProofKind
from device_agent.wire.trust import TrustBundle
from tests.device import Table, serials_in
from tests.pki import Authority
from tests.power import PowerCutError, Unsynced, disk
from tests.provisioner import Provisioner
from tests.rolled import bundle, link

SEEDS = int(os.environ.get("FAULT_SEEDS", "1"))
"""How often each cut is made where chance decides what is left of it; `make faults` makes more."""


MOST_CUTS_IN_A_LIFE = 100


def ways_to_lose(calls: int) -> Iterator[tuple[int, Unsynced, int]]:
    """Yield each cut with each that may become of what was not synced."""
    fates = [(Unsynced.LOST, 0), (Unsynced.KEPT, 0), *((Unsynced.MIXED, seed) for seed in range(SEEDS))]
    for cut_at, (unsynced, seed) in itertools.product(range(calls), fates):
        yield cut_at, unsynced, seed


async def enroll_and_renew(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        await agent.renew_once()


async def go_on(table: Table) -> None:
    """Do what a device does after the power is back."""
    with table.agent() as agent:
        life, live = agent.record.life, table.server.live
        if life.active is not None:
            assert serials_in(life) & live, "a device with a certificate has one that is admitted"
        elif life.proof is not None:
            assert life.proof.kind is ProofKind.CODE
        else:
            assert not live, "a device that remembers nothing has nothing at the server"
        if life.active is None or life.proof is not None:
            await agent.enroll_mqtt(table.enrollment())
        await agent.renew_once()
        status = agent.status()
        assert state_of(agent.record.life) is State.SETTLED
    assert table.server.live == {status.serial}
    assert [path.stem for path in (table.state / "keys").iterdir()] == [status.key]
    shown = read_bundle((table.state / "current" / "cert.pem").read_text(), most=1)
    assert read_leaf(shown[0]).serial == status.serial


async def count_calls(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    table = Table(folder=folder, server=Provisioner())
    with disk(monkeypatch, table.folder) as whole:
        await enroll_and_renew(table)
    return whole.calls


async def test_after_a_cut_at_any_write_the_device_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole").mkdir()
    calls, cuts = await count_calls(monkeypatch, tmp_path / "whole"), 0
    for cut_at, unsynced, seed in ways_to_lose(calls):
        folder = tmp_path / f"cut-{cut_at}-{unsynced.name}-{seed}"
        folder.mkdir()
        table = Table(folder=folder, server=Provisioner())
        with (
            disk(monkeypatch, table.folder, cut_at=cut_at, unsynced=unsynced, seed=seed),
            pytest.raises(PowerCutError),
        ):
            await enroll_and_renew(table)
        await go_on(table)
        cuts += 1
    with capsys.disabled():
        print(f" {cuts} cuts at {calls} writes of enrollment and renewal", end="")
    assert cuts >= 300


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_device_whose_power_is_cut_again_and_again_goes_on_in_the_end(
    seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cut while the damage of the last one is being mended, and so on, always by chance."""
    chance, cuts = Random(seed), 0
    table = Table(folder=tmp_path, server=Provisioner())
    while cuts < MOST_CUTS_IN_A_LIFE:
        cut_at = chance.randrange(120)
        try:
            with disk(monkeypatch, tmp_path, cut_at=cut_at, unsynced=Unsynced.MIXED, seed=cuts):
                await go_on(table)
        except PowerCutError:
            cuts += 1
    await go_on(table)
    with capsys.disabled():
        print(f" {cuts} cuts in one life", end="")


@pytest.mark.parametrize("unsynced", Unsynced)
async def test_a_reset_that_is_cut_leaves_the_identity_or_none(
    unsynced: Unsynced, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cut_at, is_done = 0, False
    while not is_done:
        folder = tmp_path / f"cut-{cut_at}"
        folder.mkdir()
        table = Table(folder=folder, server=Provisioner())
        with disk(monkeypatch, table.folder):
            await table.enroll()
        with disk(monkeypatch, table.folder, cut_at=cut_at, unsynced=unsynced):
            try:
                with table.agent() as agent:
                    agent.reset()
                is_done = True
            except PowerCutError:
                pass
        with table.agent() as agent:
            serial = agent.status().serial
            assert serial is None or {serial} == table.server.live
            names = {path.stem for path in (table.state / "keys").iterdir()}
            assert names == (set() if serial is None else {agent.status().key})
        cut_at += 1
    assert cut_at > 5


@pytest.mark.parametrize("error", [28, 30, 13], ids=["full", "read-only", "not permitted"])
async def test_a_disk_that_takes_nothing_is_one_clear_error_and_the_device_goes_on_later(
    error: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = Table(folder=tmp_path, server=Provisioner())
    await table.enroll()
    real = Path.replace
    with table.agent() as agent:
        before = agent.status().serial
        with monkeypatch.context() as patch:

            def refuse(source: Path, target: Path) -> Path:
                raise OSError(error, "no")

            patch.setattr(Path, "replace", refuse)
            with pytest.raises(AgentError) as caught:
                await agent.renew_once()
        assert caught.value.hint
        assert Path.replace is real
        assert agent.status().serial == before
        assert (await agent.renew_once()).serial in table.server.live


async def take_two_bundles(table: Table, bundles: tuple[TrustBundle, TrustBundle]) -> None:
    for wanted in bundles:
        with table.agent() as agent:
            await agent.take_bundle(wanted)


def bundles_of(table: Table) -> tuple[TrustBundle, TrustBundle]:
    old, new = table.server.pki.roots["prod"], Authority.root("acme prod root 2")
    way = [link(old, new)]
    return bundle(old, new, links=way), bundle(new, version=2, links=way)


@pytest.mark.parametrize("unsynced", Unsynced)
async def test_after_a_cut_at_any_write_of_a_trust_update_the_device_trusts_the_old_or_the_new(
    unsynced: Unsynced, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_at, is_done = 0, False
    while not is_done:
        folder = tmp_path / f"cut-{cut_at}"
        folder.mkdir()
        table = Table(folder=folder, server=Provisioner())
        await table.enroll()
        bundles = bundles_of(table)
        with disk(monkeypatch, table.folder, cut_at=cut_at, unsynced=unsynced):
            try:
                await take_two_bundles(table, bundles)
                is_done = True
            except PowerCutError:
                pass
        with table.agent() as agent:
            version = dict(agent.record.trust_versions).get("prod", 0)
            anchors = {anchor.pem for anchor in agent.record.life.anchors}
            assert len(anchors) == (1, 2, 1)[version]
            shown = (table.state / "current" / "trust.pem").read_text()
            assert shown == "".join(anchor.pem for anchor in agent.record.life.anchors)
            await agent.take_bundle(bundles[1])
            assert agent.record.trust_versions == (("prod", 2),)
        cut_at += 1
    with capsys.disabled():
        print(f" {cut_at - 1} cuts, what was not synced {unsynced.name.lower()}", end="")
    assert cut_at > 30
