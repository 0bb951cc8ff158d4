"""Without an MQTT connection of its own the agent renews over HTTPS, with the device's certificate."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.memory import Heard, MemoryAsker, MemoryNetwork
from device_agent.config import Connection
from device_agent.core.events import Route
from device_agent.core.lifecycle import State
from device_agent.errors import ChannelError, RefusedError, UntrustedBundleError, UsageError
from device_agent.ports import HttpsLogin, OperationalLogin
from device_agent.wire.fields import time_text
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import BrokerAddress, Problem, Reply
from device_agent.wire.requests import Request
from device_agent.wire.trust import FLEET_REALM
from fleet.core import events
from fleet.model import CertificateState
from tests.device import Table
from tests.provisioner import Provisioner
from tests.rolled import der
from tests.unit.device_agent.test_agent import until
from tests.unit.device_agent.test_trusting import Rolling, held


class Watched(Provisioner):
    """Remembers who connected and what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = 0
        self.heard: list[tuple[Route, str]] = []
        self.turns_away = False

    def admits(self, login: OperationalLogin) -> bool:
        self.connected += 1
        return super().admits(login)

    def answer(self, heard: Heard, request: Request) -> Reply:
        self.heard.append((heard.route, request.kind))
        if self.turns_away and heard.route is Route.ACTIVE:
            return Problem.of(request.id, ProblemCode.NOT_CURRENT, "not the current one")
        return super().answer(heard, request)


@pytest.fixture
def server() -> Watched:
    return Watched()


@pytest.fixture
def table(server: Watched, tmp_path: Path) -> Table:
    return Table(folder=tmp_path, server=server)


def lending(table: Table) -> AbstractContextManager[Agent]:
    settings = replace(table.settings, connection=Connection.LENT)
    return Agent.opened(settings, ways=table.network, clock=table.clock)


async def test_a_renewal_goes_over_https_where_mqtt_is_blocked(table: Table, server: Watched) -> None:
    await table.enroll()
    table.network.blocks_mqtt = True
    with table.agent() as agent:
        before = agent.status().serial
        status = await agent.renew_once()
    assert (status.serial != before, status.state) == (True, State.SETTLED)
    assert list(server.states().values()) == [CertificateState.SUPERSEDED_ACKED, CertificateState.ACTIVE]


async def test_a_running_agent_tells_that_it_renewed_though_it_cannot_connect(table: Table) -> None:
    await table.enroll()
    table.network.blocks_mqtt = True
    with table.agent() as agent:
        before = agent.status().serial
        async with agent.connected():
            status = await agent.renew()
            assert status.serial != before
            await until(lambda: agent.status().problem == "unreachable")
            status = agent.status()
            assert status.problem_text == "cannot connect: MQTT is blocked"
            assert status.problem_since is not None


async def test_where_no_https_address_is_known_the_blocked_connection_is_the_error(
    table: Table, server: Watched
) -> None:
    server.recovery = None
    await table.enroll()
    table.network.blocks_mqtt = True
    with table.agent() as agent, pytest.raises(ChannelError, match="MQTT is blocked"):
        await agent.renew_once()


async def test_a_new_broker_that_was_never_reached_is_not_confirmed(table: Table, server: Watched) -> None:
    """Else the certificate that opens the old one would be given up for nothing."""
    await table.enroll()
    server.broker = BrokerAddress(host="elsewhere", port=8883, name=server.identity.name)
    table.network.blocks_mqtt = True
    with table.agent() as agent:
        before = agent.status().serial
        with pytest.raises(ChannelError, match="MQTT is blocked"):
            await agent.renew_once()
        assert (agent.status().serial, agent.status().state) == (before, State.CONFIRMING)
    assert list(server.states().values()) == [CertificateState.ACTIVE, CertificateState.ISSUED]


async def test_an_agent_that_lends_its_connection_never_opens_it(table: Table, server: Watched) -> None:
    await table.enroll()
    server.connected, server.heard = 0, []
    with lending(table) as agent:
        async with agent.connected():
            await until(lambda: (Route.ACTIVE, "status") in server.heard)
            await agent.renew()
    assert server.connected == 0
    assert [kind for _route, kind in server.heard] == ["status", "renew", "confirm", "done", "status"]


async def test_what_the_server_wishes_is_heard_without_notices(table: Table, server: Watched) -> None:
    await table.enroll()
    wish = server.renew_after = table.clock().replace(microsecond=0) + timedelta(days=3)
    with lending(table) as agent:
        async with agent.connected():
            await until(lambda: agent.status().renew_at == time_text(wish))


async def test_a_certificate_that_is_not_current_any_more_leads_to_recovery(
    table: Table, server: Watched
) -> None:
    await table.enroll()
    server.turns_away = True
    with lending(table) as agent:
        status = await agent.renew_once()
    assert status.state == State.SETTLING
    assert (Route.RECOVERY, "renew") in server.heard
    assert server.states()[status.serial or ""] is CertificateState.ACTIVE


async def test_a_revoked_device_is_told_so(table: Table, server: Watched) -> None:
    await table.enroll()
    server.act(events.Revoke())
    with lending(table) as agent:
        async with agent.connected():
            await until(lambda: agent.status().problem == ProblemCode.REVOKED)
        with pytest.raises(RefusedError):
            await agent.renew_once()


async def test_a_lent_connection_carries_no_messages_of_the_agent(table: Table) -> None:
    await table.enroll()
    with lending(table) as agent:
        with pytest.raises(UsageError, match="lent"):
            await agent.publish("up", b"1")
        with pytest.raises(UsageError, match="lent"):
            agent.messages("#")


class Picky(MemoryNetwork):
    """HTTPS whose server shows a certificate under one root."""

    def __init__(self, server: Rolling) -> None:
        super().__init__(server)
        self._rolling = server

    @asynccontextmanager
    async def https(self, login: HttpsLogin) -> AsyncIterator[MemoryAsker]:
        if der(self._rolling.shown.certificate) not in login.tls.get_ca_certs(binary_form=True):
            raise ChannelError("certificate verify failed")
        async with super().https(login) as asker:
            yield asker


async def test_servers_roots_are_tried_over_https_where_the_connection_is_lent(tmp_path: Path) -> None:
    rolling = Rolling()
    table = Table(folder=tmp_path, server=rolling)
    await table.enroll()
    table.network, connects = Picky(rolling), rolling.connects
    with lending(table) as agent:
        with pytest.raises(UntrustedBundleError, match="locks-out"):
            await agent.take_bundle(rolling.servers(rolling.new_servers))
        assert held(agent, FLEET_REALM) == [der(rolling.old_servers.certificate)]
        rolling.shown = rolling.new_servers
        await agent.take_bundle(rolling.servers(rolling.new_servers, version=2))
        assert held(agent, FLEET_REALM) == [der(rolling.new_servers.certificate)]
    assert rolling.connects == connects
