"""An agent and trust bundles: taken and acknowledged, refused and reported, tried before an anchor goes."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent import control
from device_agent.agent import Agent
from device_agent.channels.memory import Heard
from device_agent.core.certificates import read_bundle
from device_agent.core.trust import Doubt, Source
from device_agent.errors import ChannelError, ExitCode, NotEnrolledError, UntrustedBundleError
from device_agent.ports import OperationalLogin
from device_agent.wire import replies
from device_agent.wire import requests as wire
from device_agent.wire.notices import Notice, StateReport
from device_agent.wire.trust import FLEET_REALM, TrustBundle
from fleet.model import Certificate
from tests.device import Table
from tests.pki import Authority
from tests.provisioner import Provisioner
from tests.rolled import bundle, der, link


class Rolling(Provisioner):
    """A server whose roots are rolled over; its broker shows a certificate under `shown`."""

    def __init__(self) -> None:
        super().__init__()
        self.old, self.new = self.pki.roots["prod"], Authority.root("acme prod root 2")
        self.old_servers, self.new_servers = self.pki.roots["fleet"], Authority.root("acme fleet root 2")
        self.shown = self.old_servers
        self.in_force: tuple[TrustBundle, ...] = ()
        self.connects = 0
        self.told: set[tuple[str, int]] = set()

    def answer(self, heard: Heard, request: wire.Request) -> replies.Reply:
        if isinstance(request, wire.Renew | wire.Done):
            self.told |= set(request.trust)
        return super().answer(heard, request)

    @property
    def both(self) -> TrustBundle:
        return bundle(self.old, self.new, links=[link(self.old, self.new)])

    @property
    def new_alone(self) -> TrustBundle:
        return bundle(self.new, version=2, links=[link(self.old, self.new)])

    def servers(self, *anchors: Authority, version: int = 1) -> TrustBundle:
        links = [link(self.old_servers, self.new_servers)]
        return bundle(*anchors, version=version, realm=FLEET_REALM, links=links)

    def admits(self, login: OperationalLogin) -> bool:
        self.connects += 1
        if der(self.shown.certificate) not in login.tls.get_ca_certs(binary_form=True):
            raise ChannelError("certificate verify failed")
        return super().admits(login)

    def issued(self, message_id: str, certificate: Certificate) -> replies.Issued:
        return replace(super().issued(message_id, certificate), bundles=self.in_force)


@pytest.fixture
def server() -> Rolling:
    return Rolling()


@pytest.fixture
async def table(tmp_path: Path, server: Rolling) -> Table:
    made = Table(folder=tmp_path, server=server)
    await made.enroll()
    return made


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - nothing rings a bell for a test
            await asyncio.sleep(0)


def notify(table: Table, agent: Agent, *bundles: TrustBundle) -> None:
    active = agent.record.life.active
    assert active is not None
    notice = Notice(serial=active.serial, renew_after=table.server.renew_after, bundles=bundles)
    table.network.deliver("fleet/v1/prod/d1/notice", notice.encode())


def state(table: Table) -> StateReport:
    (body,) = [body for topic, body in table.network.published if topic == "fleet/v1/prod/d1/state"]
    return StateReport.parse(body)


def held(agent: Agent, realm: str = "prod") -> list[bytes]:
    return [read_bundle(anchor.pem, most=1)[0] for anchor in agent.record.anchors_in(realm)]


async def test_a_bundle_in_a_notice_is_held_acknowledged_and_shown_to_other_programs(
    table: Table, server: Rolling
) -> None:
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            notify(table, agent, server.both)
            await until(lambda: state(table).trust == (("prod", 1),))
            assert len(state(table).anchors) == 2
    with table.agent() as agent:
        assert held(agent) == [der(server.old.certificate), der(server.new.certificate)]
        told = agent.record.held("prod")
        assert told is not None
        assert (told.version, told.source) == (1, Source.NOTICE)
    shown = (table.state / "current" / "trust.pem").read_text()
    assert shown.count("BEGIN CERTIFICATE") == 2


async def test_requests_tell_which_bundles_are_held(table: Table, server: Rolling) -> None:
    with table.agent() as agent:
        await agent.take_bundle(server.both)
        assert agent.record.trust_versions == (("prod", 1),)
        await agent.renew_once()
    assert server.told == {("prod", 1)}


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda server: replace(server.both, signature=b"\x30" * 70), Doubt.FORGED),
        (lambda _server: bundle(Authority.root("acme prod root 2")), Doubt.UNCHAINED),
        (lambda server: bundle(server.old, realm="lab"), Doubt.OTHER_REALM),
    ],
    ids=["forged", "chained from nothing", "another realm"],
)
async def test_a_bundle_that_must_not_be_believed_is_refused_and_reported(
    table: Table, server: Rolling, wrong: Callable[[Rolling], TrustBundle], word: Doubt
) -> None:
    with table.agent() as agent:
        before = agent.record
        async with agent.connected():
            await agent.ready()
            notify(table, agent, wrong(server))
            await until(lambda: state(table).problem == word)
            assert agent.record == before
            assert agent.status().connected
            notify(table, agent, server.both)
            await until(lambda: state(table).problem is None)
            assert state(table).trust == (("prod", 1),)


async def test_an_older_bundle_is_refused_after_a_restart_too(table: Table, server: Rolling) -> None:
    with table.agent() as agent:
        await agent.take_bundle(
            bundle(server.old, server.new, version=3, links=[link(server.old, server.new)])
        )
    with table.agent() as agent:
        with pytest.raises(UntrustedBundleError) as caught:
            await agent.take_bundle(server.both)
        assert caught.value.word == Doubt.ROLLED_BACK
        assert agent.record.trust_versions == (("prod", 3),)


async def test_a_bundle_that_only_adds_needs_no_trial(table: Table, server: Rolling) -> None:
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            before = server.connects
            notify(table, agent, server.servers(server.old_servers, server.new_servers))
            await until(lambda: agent.record.trust_versions == ((FLEET_REALM, 1),))
    assert server.connects == before


async def test_servers_that_are_to_be_trusted_by_another_root_alone_are_tried_first(
    table: Table, server: Rolling
) -> None:
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            server.shown = server.new_servers
            notify(table, agent, server.servers(server.new_servers))
            await until(lambda: agent.record.trust_versions == ((FLEET_REALM, 1),))
            await until(lambda: state(table).trust == ((FLEET_REALM, 1),))
            assert agent.status().connected
    with table.agent() as agent:
        assert held(agent, FLEET_REALM) == [der(server.new_servers.certificate)]


async def test_a_bundle_that_would_lock_the_device_out_is_not_kept_and_not_tried_at_each_connection(
    table: Table, server: Rolling
) -> None:
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            notify(table, agent, server.servers(server.new_servers))
            await until(lambda: agent.status().connected and state(table).problem == Doubt.LOCKS_OUT)
            assert held(agent, FLEET_REALM) == [der(server.old_servers.certificate)]
            tried = server.connects
            notify(table, agent, server.servers(server.new_servers), server.both)
            await until(lambda: agent.record.trust_versions == (("prod", 1),))
            assert server.connects == tried


async def test_giving_up_the_root_of_the_own_certificate_waits_for_a_broker_that_lets_it_in(
    table: Table, server: Rolling
) -> None:
    with table.agent() as agent:
        server.shown = server.new_servers
        with pytest.raises(UntrustedBundleError) as caught:
            await agent.take_bundle(server.new_alone)
        assert caught.value.word == Doubt.LOCKS_OUT
        assert held(agent) == [der(server.old.certificate)]
    server.shown = server.old_servers
    with table.agent() as agent:
        await agent.take_bundle(server.new_alone)
        assert held(agent) == [der(server.new.certificate)]


async def test_the_first_answer_brings_the_bundles_in_force(tmp_path: Path, server: Rolling) -> None:
    server.in_force = (bundle(server.old, version=4), server.servers(server.old_servers, version=2))
    table = Table(folder=tmp_path, server=server)
    await table.enroll()
    with table.agent() as agent:
        assert agent.record.trust_versions == ((FLEET_REALM, 2), ("prod", 4))


async def test_a_running_agent_takes_a_bundle_from_a_file_and_says_why_it_does_not(
    table: Table, server: Rolling
) -> None:
    def ask(wanted: TrustBundle) -> control.Told | None:
        return control.ask(table.settings.socket, "trust", {"bundle": wanted.members()})

    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            told = await asyncio.to_thread(ask, server.both)
            refused = await asyncio.to_thread(ask, replace(server.new_alone, signature=b"\x30"))
    assert told is not None
    assert told.exit_code is ExitCode.DONE
    assert refused is not None
    assert (refused.exit_code, Doubt.FORGED in refused.error) == (ExitCode.REFUSED, True)


async def test_a_device_without_a_certificate_takes_no_bundle(tmp_path: Path, server: Rolling) -> None:
    table = Table(folder=tmp_path, server=server)
    with table.agent() as agent, pytest.raises(NotEnrolledError):
        await agent.take_bundle(server.both)


async def test_what_is_trusted_is_told_with_since_when_and_by_whom(table: Table, server: Rolling) -> None:
    with table.agent() as agent:
        own, servers = agent.trust()
        assert (own.realm, own.version, own.source) == ("prod", 0, "enrollment")
        assert (servers.servers, servers.version, servers.source) == (True, 0, "enrollment")
        own, _ = await agent.take_bundle(server.both)
    assert (own.version, own.source, len(own.anchors)) == (1, "file", 2)
