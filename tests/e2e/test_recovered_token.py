"""A device whose token was pulled, emptied or replaced: what is lost is told from what may come back."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.core.ladder import Rung
from device_agent.errors import BadInputError, KeyStoreError
from device_agent.keys.place import open_keys
from device_agent.recovering import Recovery, move_keys
from device_agent.wire.secret import Secret
from tests.device import Table
from tests.tokens import SoftHsm, SoftToken

pytestmark = pytest.mark.needs("softhsm2-util")

CODE = "SECN-DCDE-2222-2222"


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path / "softhsm") as made:
        yield made


async def enrolled_in(token: SoftToken, folder: Path) -> Table:
    table = Table(folder=folder)
    settings = replace(table.settings, key_place=token.uri)
    with Agent.opened(settings, ways=table.network, clock=table.clock) as agent:
        await agent.enroll_mqtt(table.enrollment())
    return table


async def fails_for_its_key(agent: Agent) -> None:
    with pytest.raises(KeyStoreError):
        await agent.renew_once()


async def test_a_token_that_is_pulled_out_is_no_lost_key(hsm: SoftHsm, tmp_path: Path) -> None:
    token = hsm.token()
    table = await enrolled_in(token, tmp_path)
    token.pull()
    with table.agent() as agent:
        await fails_for_its_key(agent)
        assert agent.status().rung == Rung.CERTIFICATE
    token.put_back()
    with table.agent() as agent:
        renewed = await agent.renew_once()
    assert table.server.live == {renewed.serial}


async def test_a_token_that_was_emptied_has_lost_the_key_and_a_code_brings_another(
    hsm: SoftHsm, tmp_path: Path
) -> None:
    token = hsm.token()
    shutil.copytree(token.folder, tmp_path / "empty")
    table = await enrolled_in(token, tmp_path)
    token.restore(tmp_path / "empty")
    with table.agent() as agent:
        await fails_for_its_key(agent)
        assert (agent.status().rung, agent.status().rung_why) == (Rung.CODE, "key-lost")
        table.server.hand_out(CODE)
        recovered = await agent.recover_once(Recovery(code=Secret(CODE)))
    assert (recovered.name, recovered.rung) == ("prod:d1", Rung.CERTIFICATE)
    assert open_keys(table.state).names() == (recovered.key,)


async def test_a_token_that_was_replaced_gets_a_new_key_by_a_code_and_never_by_a_slip(
    hsm: SoftHsm, tmp_path: Path
) -> None:
    broken, spare = hsm.token(), hsm.token()
    table = await enrolled_in(broken, tmp_path)
    with pytest.raises(BadInputError, match="has its keys in"):
        move_keys(table.state, spare.uri)
    broken.pull()
    move_keys(table.state, spare.uri)
    table.server.hand_out(CODE)
    with table.agent() as agent:
        recovered = await agent.recover_once(Recovery(code=Secret(CODE)))
        assert agent.record.life.proof is None
    assert table.server.live == {recovered.serial}
    assert spare.label in str(open_keys(table.state).reference(str(recovered.key)))
