"""Power is cut at each write and at each change of the token: the key and its certificate are never apart.

A token does each of its calls whole, or not at all, or makes one key of a pair. That SoftHSM syncs no file is
its own affair, and not tried.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from device_agent.config import Settings
from device_agent.core.lifecycle import State, state_of
from device_agent.keys import cryptoki
from device_agent.keys.cryptoki import Attribute, Session
from device_agent.keys.place import open_keys
from device_agent.keys.token_access import TokenAccess
from device_agent.keys.uri import parse_token_uri
from tests.device import Table, serials_in
from tests.power import PowerCutError, Unsynced, disk
from tests.provisioner import Provisioner
from tests.tokens import MODULE, SoftHsm, SoftToken, cut_with

pytestmark = pytest.mark.needs("softhsm2-util")

EVERY = 1 if "FAULT_SEEDS" in os.environ else 3
"""`make faults` makes every cut, each time all that may become of it; else each cut with one of them."""


@dataclass(kw_only=True)
class TokenTable(Table):
    """A table whose device has its keys in a token."""

    token: SoftToken

    @property
    def settings(self) -> Settings:
        return replace(super().settings, key_place=self.token.uri)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One token, made as new before each cut."""

    folder: Path
    token: SoftToken
    patch: pytest.MonkeyPatch

    @property
    def _image(self) -> Path:
        return self.folder / "image"

    def table(self, name: str) -> TokenTable:
        if not self._image.exists():
            shutil.copytree(self.token.folder, self._image)
        cryptoki.load(MODULE).begin_anew()
        self.token.restore(self._image)
        (self.folder / name).mkdir()
        return TokenTable(folder=self.folder / name, server=Provisioner(), token=self.token)

    @contextmanager
    def power(self, table: Table, *, cut_at: int | None, unsynced: Unsynced) -> Iterator[list[int]]:
        """Cut the power within the body; gives the number of calls that there were."""
        calls: list[int] = []
        watched = disk(self.patch, table.folder, cut_at=cut_at, unsynced=unsynced)
        with watched as made, self.patch.context() as patch:
            cut_with(patch, made)
            try:
                yield calls
            finally:
                calls.append(made.calls)
        # The next process begins with a library that knows nothing.
        cryptoki.load(MODULE).begin_anew()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        yield Bench(folder=tmp_path, token=hsm.token(), patch=monkeypatch)


def objects_in(token: SoftToken) -> int:
    """Count all keys of a token, whosoever they are."""
    uri = replace(parse_token_uri(token.uri), object="any")
    access = TokenAccess(uri, refused_pins=token.pin_file.with_suffix(".refused"))

    def count(session: Session) -> int:
        return sum(len(session.find({Attribute.CLASS: kind})) for kind in (2, 3))

    return access.within(count)


def ways_to_cut(calls: int) -> list[tuple[int, Unsynced]]:
    every = [(cut_at, fate) for cut_at in range(calls) for fate in Unsynced]
    return [each for place, each in enumerate(every) if (place + each[0]) % EVERY == 0]


async def live(table: TokenTable) -> None:
    """Enroll, confirm, renew, confirm."""
    await table.enroll()
    with table.agent() as agent:
        await agent.renew_once()


async def require_life_goes_on(table: TokenTable) -> None:
    with table.agent() as agent:
        life, admitted = agent.record.life, table.server.live
        assert len(admitted) <= 2
        if life.active is not None:
            assert serials_in(life) & admitted, "a device with a certificate has one that is admitted"
            agent._life.signer(life.active.key).sign(b"the key is there and signs")
        else:
            assert life.proof is not None or not admitted, "who remembers nothing has nothing at the server"
        if life.active is None or life.proof is not None:
            await agent.enroll_mqtt(table.enrollment())
        await agent.renew_once()
        status = agent.status()
        assert state_of(agent.record.life) is State.SETTLED
    assert table.server.live == {status.serial}
    assert open_keys(table.state).names() == (status.key,)
    assert objects_in(table.token) == 2, "one pair, and none that was left behind"


async def test_after_a_cut_at_any_write_or_change_of_the_token_the_device_goes_on(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = bench.table("whole")
    with bench.power(whole, cut_at=None, unsynced=Unsynced.KEPT) as calls:
        await live(whole)
    cuts = ways_to_cut(calls[0])
    for cut_at, unsynced in cuts:
        table = bench.table(f"cut-{cut_at}-{unsynced.name}")
        with (
            pytest.raises(PowerCutError),
            bench.power(table, cut_at=cut_at, unsynced=unsynced),
        ):
            await live(table)
        await require_life_goes_on(table)
    with capsys.disabled():
        print(f" {len(cuts)} cuts at {calls[0]} writes and changes of a token", end="")
    assert len(cuts) >= 60


@pytest.mark.parametrize("unsynced", Unsynced)
async def test_a_reset_that_is_cut_leaves_a_working_key_or_none_in_the_token(
    unsynced: Unsynced, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_at, is_done = 0, False
    while not is_done:
        table = bench.table(f"cut-{cut_at}")
        await table.enroll()
        with bench.power(table, cut_at=cut_at, unsynced=unsynced):
            try:
                with table.agent() as agent:
                    agent.reset()
                is_done = True
            except PowerCutError:
                pass
        with table.agent() as agent:
            status = agent.status()
            assert status.serial is None or {status.serial} == table.server.live
        assert objects_in(table.token) == (0 if status.serial is None else 2)
        cut_at += 1
    with capsys.disabled():
        print(f" {cut_at - 1} cuts, {unsynced.name.lower()}", end="")
    assert cut_at > 5
