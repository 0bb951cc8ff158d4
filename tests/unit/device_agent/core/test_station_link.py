"""The device's half of the factory link: what it does in each state, and whom it obeys."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.core.station_link import LARGEST_MESSAGE, TRANSITIONS, StationLink
from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire import smp
from device_agent.wire.factory import Command, LinkState, Rc, station_text
from device_agent.wire.factory_calls import Call, CallId, encode_call, parse_answer
from device_agent.wire.objects import ObjectHashes, ObjectId, encode_certificates
from device_agent.wire.smp import DEFAULT_GROUP
from fleet.station.keeping.package import IssueOrder, Package, pack
from tests.factory_floor import NOW, Floor, MemoryUnit

SESSION = b"session1"
STATION_NONCE = b"n" * 16
DEVICE_NONCE = b"d" * 16
FLOOR = Floor()


class Bench:
    """A unit with its link, and a station's hand on it."""

    def __init__(self, unit: MemoryUnit | None = None, *, session: bytes = SESSION) -> None:
        self.unit = unit or MemoryUnit(anchors=(FLOOR.anchor,))
        self.link = StationLink(self.unit)
        self.session = session
        self.sequence = 0

    def ask(
        self, request: requests.Request, *, sequence: int | None = None
    ) -> replies.Reply | replies.Refusal:
        self.sequence = self.sequence + 1 if sequence is None else sequence
        call = Call(id=CallId(session=self.session, sequence=self.sequence), request=request)
        octets = self.raw(encode_call(call, group=DEFAULT_GROUP))
        answer = parse_answer(octets, group=DEFAULT_GROUP)
        assert answer.id == call.id
        return answer.reply

    def raw(self, message: bytes) -> bytes:
        handled = self.link.handle(message, nonce=DEVICE_NONCE, now=NOW)
        assert handled.answer is not None
        return handled.answer

    def rc(self, request: requests.Request) -> int:
        reply = self.ask(request)
        return reply.rc if isinstance(reply, replies.Refusal) else 0

    def hello(self) -> replies.HelloReply:
        reply = self.ask(requests.Hello(nonce=STATION_NONCE))
        assert isinstance(reply, replies.HelloReply)
        return reply

    def key(self, device_id: str = "d1") -> bytes:
        """Do IDENT and READ; return the CSR."""
        assert self.rc(requests.Ident(device_id=device_id)) == 0
        reply = self.ask(requests.Read(object_id=1, offset=0, length=2000))
        assert isinstance(reply, replies.ReadReply)
        return reply.octets

    def write(self, package: Package) -> None:
        for object_id, octets in package.objects.items():
            assert self.rc(requests.Write(object_id=object_id, offset=0, octets=octets)) == 0

    def order(
        self, hashes: ObjectHashes, *, station: str = "line-3", purpose: str = "station"
    ) -> requests.Install:
        identity = FLOOR.station(station, purpose=purpose)
        text = station_text(self.session, device_nonce=DEVICE_NONCE, hashes=hashes)
        return requests.Install(hashes=hashes, signature=identity.sign(text), station_chain=identity.chain)


async def package_for(csr: bytes, *, device_id: str = "d1", hardware_id: str = "hw-1") -> Package:
    order = IssueOrder(device_id=device_id, hardware_id=hardware_id, csr=csr)
    floor_enroller = replace(FLOOR.enroller, made={}, owners={})
    return pack(order, await floor_enroller.issue(order))


async def written(bench: Bench) -> Package:
    """Bring a bench to where INSTALL comes next."""
    bench.hello()
    package = await package_for(bench.key())
    bench.write(package)
    return package


async def installed(bench: Bench) -> Package:
    package = await written(bench)
    assert bench.rc(bench.order(package.hashes)) == 0
    return package


async def active(bench: Bench) -> Package:
    package = await installed(bench)
    assert bench.rc(requests.Commit(fingerprint=package.fingerprint)) == 0
    return package


async def in_state(state: LinkState) -> tuple[Bench, Package | None]:
    bench = Bench()
    match state:
        case LinkState.FRESH:
            bench.hello()
            return bench, None
        case LinkState.KEYED:
            return bench, await written(bench)
        case LinkState.PENDING:
            return bench, await installed(bench)
        case LinkState.ACTIVE:
            return bench, await active(bench)


def request_for(command: Command, bench: Bench, package: Package | None) -> requests.Request:
    hashes = (
        package.hashes
        if package
        else ObjectHashes(chain=b"1" * 32, anchors=b"2" * 32, configuration=b"3" * 32)
    )
    made: dict[Command, requests.Request] = {
        Command.HELLO: requests.Hello(nonce=STATION_NONCE),
        Command.ATTEST: requests.Attest(nonce=STATION_NONCE),
        Command.IDENT: requests.Ident(device_id="d1"),
        Command.READ: requests.Read(object_id=1, offset=0, length=10),
        Command.WRITE: requests.Write(object_id=ObjectId.STATION_CHAIN, offset=0, octets=b"x"),
        Command.INSTALL: bench.order(hashes),
        Command.PROVE: requests.Prove(nonce=STATION_NONCE),
        Command.COMMIT: requests.Commit(fingerprint=package.fingerprint if package else bytes(32)),
        Command.ABORT: requests.Abort(),
        Command.STATUS: requests.Status(),
        Command.ASK: requests.Ask(nonce=bytes(32), time=0),
        Command.HEAR: requests.Hear(answer=b"a", signature=b"s", station_chain=(b"c",)),
    }
    return made[command]


@pytest.mark.parametrize("command", Command)
@pytest.mark.parametrize("state", LinkState)
async def test_every_command_in_every_state_does_what_the_table_says(
    state: LinkState, command: Command
) -> None:
    bench, package = await in_state(state)
    rc = bench.rc(request_for(command, bench, package))
    after = bench.unit.report().state
    allowed = TRANSITIONS.get((state, command))
    if command in (Command.ATTEST, Command.ASK, Command.HEAR):
        assert (rc, after) == (Rc.UNSUPPORTED, state)
    elif allowed is None:
        assert (rc, after) == (Rc.STATE, state)
    else:
        assert rc == 0
        assert after in allowed


async def test_a_unit_goes_from_fresh_to_active() -> None:
    bench = Bench()
    assert bench.hello().state is LinkState.FRESH
    package = await active(bench)
    status = bench.ask(requests.Status())
    assert isinstance(status, replies.StatusReply)
    assert status.state is LinkState.ACTIVE
    assert bench.unit.report().fingerprint == package.fingerprint
    assert bench.link.committed is not None
    assert (bench.link.committed.station, bench.link.committed.tofu) == ("line-3", False)


async def test_any_call_after_commit_ends_the_visit() -> None:
    bench, _ = await in_state(LinkState.ACTIVE)
    assert not bench.link.is_over
    bench.ask(requests.Status())
    assert bench.link.is_over


async def test_a_repeated_call_gets_the_same_answer_and_does_nothing_twice() -> None:
    bench = Bench()
    package = await written(bench)
    order = bench.order(package.hashes)
    first = bench.ask(order, sequence=50)
    assert bench.ask(order, sequence=50) == first
    assert bench.unit.installs == 1


async def test_a_repeated_hello_keeps_the_nonce_of_its_session() -> None:
    bench = Bench()
    first = bench.hello().nonce
    handled = bench.link.handle(
        encode_call(
            Call(id=CallId(session=SESSION, sequence=9), request=requests.Hello(nonce=STATION_NONCE)),
            group=DEFAULT_GROUP,
        ),
        nonce=b"x" * 16,
        now=NOW,
    )
    assert handled.answer is not None
    again = parse_answer(handled.answer, group=DEFAULT_GROUP).reply
    assert isinstance(again, replies.HelloReply)
    assert again.nonce == first


async def test_a_new_session_forgets_what_was_written_in_the_old_one() -> None:
    bench = Bench()
    package = await written(bench)
    bench.session = b"session2"
    bench.hello()
    assert bench.rc(bench.order(package.hashes)) == Rc.HASH


def test_before_hello_nothing_is_done() -> None:
    assert Bench().rc(requests.Ident(device_id="d1")) == Rc.SESSION


def test_another_session_is_refused_without_disturbing_the_open_one() -> None:
    bench = Bench()
    bench.hello()
    bench.session = b"session2"
    assert bench.rc(requests.Ident(device_id="d1")) == Rc.SESSION
    bench.session = SESSION
    assert bench.rc(requests.Ident(device_id="d1")) == 0


def test_the_key_is_kept_for_the_same_id_and_made_anew_for_another() -> None:
    bench = Bench()
    bench.hello()
    first, again, other = bench.key("d1"), bench.key("d1"), bench.key("d2")
    assert first == again
    assert first != other


def test_a_device_that_has_an_id_takes_no_other() -> None:
    bench = Bench(MemoryUnit(device_id="mine"))
    bench.hello()
    assert bench.rc(requests.Ident(device_id="yours")) == Rc.UNAUTHORISED


async def test_the_old_credential_lives_until_the_new_one_is_committed() -> None:
    bench, package = await in_state(LinkState.ACTIVE)
    assert package is not None
    old = bench.unit.active
    second = await package_for(bench.key("d1"))
    bench.write(second)
    assert bench.rc(bench.order(second.hashes)) == 0
    assert bench.unit.active is old
    assert bench.rc(requests.Commit(fingerprint=second.fingerprint)) == 0
    assert bench.unit.active is not old


async def test_commit_names_the_installed_certificate_or_nothing_happens() -> None:
    bench, _ = await in_state(LinkState.PENDING)
    assert bench.rc(requests.Commit(fingerprint=bytes(32))) == Rc.STATE
    assert bench.unit.commits == 0


async def test_a_second_commit_changes_nothing() -> None:
    bench, package = await in_state(LinkState.ACTIVE)
    assert package is not None
    assert bench.rc(requests.Commit(fingerprint=package.fingerprint)) == 0
    assert bench.unit.commits == 1


async def test_a_gap_in_an_object_is_refused_and_a_rewrite_is_not() -> None:
    bench, _ = await in_state(LinkState.KEYED)
    write = requests.Write(object_id=ObjectId.CHAIN, offset=0, octets=b"0123456789")
    bench.ask(write)
    assert bench.rc(replace(write, offset=11)) == Rc.OFFSET
    assert bench.ask(replace(write, offset=4, octets=b"ab")) == replies.WriteReply(offset=6)


async def test_an_object_does_not_grow_without_bound() -> None:
    bench, _ = await in_state(LinkState.KEYED)
    for offset in range(0, 16 * 1024, 4096):
        bench.ask(requests.Write(object_id=ObjectId.CHAIN, offset=offset, octets=bytes(4096)))
    assert bench.rc(requests.Write(object_id=ObjectId.CHAIN, offset=16 * 1024, octets=b"x")) == Rc.OFFSET


async def test_an_object_that_arrived_otherwise_is_not_installed() -> None:
    bench = Bench()
    package = await written(bench)
    bench.ask(requests.Write(object_id=ObjectId.ANCHORS, offset=5, octets=b"!"))
    assert bench.rc(bench.order(package.hashes)) == Rc.HASH


async def test_the_station_chain_may_come_as_an_object() -> None:
    bench = Bench()
    package = await written(bench)
    order = bench.order(package.hashes)
    octets = encode_certificates(order.station_chain)
    bench.ask(requests.Write(object_id=ObjectId.STATION_CHAIN, offset=0, octets=octets))
    assert bench.rc(replace(order, station_chain=())) == 0


async def test_an_order_without_a_signature_is_not_obeyed() -> None:
    bench = Bench()
    package = await written(bench)
    assert bench.rc(requests.Install(hashes=package.hashes)) != 0
    assert bench.rc(replace(bench.order(package.hashes), signature=b"")) == Rc.UNAUTHORISED
    assert bench.unit.installs == 0


async def test_a_signature_of_another_session_is_not_obeyed() -> None:
    bench = Bench()
    package = await written(bench)
    bench.session = b"other..."
    order = bench.order(package.hashes)
    bench.session = SESSION
    assert bench.rc(order) == Rc.UNAUTHORISED


@pytest.mark.parametrize("purpose", ["operator", "server", "prod"])
async def test_only_a_station_is_obeyed_not_its_neighbours_under_the_root(purpose: str) -> None:
    bench = Bench()
    package = await written(bench)
    assert bench.rc(bench.order(package.hashes, purpose=purpose)) == Rc.UNAUTHORISED


async def test_a_station_under_another_root_is_not_obeyed() -> None:
    bench = Bench(MemoryUnit(anchors=(Floor().anchor,)))
    package = await written(bench)
    assert bench.rc(bench.order(package.hashes)) == Rc.UNAUTHORISED


async def test_without_an_anchor_the_first_station_is_believed_and_that_is_told() -> None:
    bench = Bench(MemoryUnit())
    package = await written(bench)
    reply = bench.ask(bench.order(package.hashes))
    assert isinstance(reply, replies.InstallReply)
    assert reply.tofu
    assert bench.unit.pending is not None
    assert bench.unit.pending.installation is not None
    assert bench.unit.pending.installation.tofu


async def test_a_certificate_for_another_key_is_refused() -> None:
    bench = Bench()
    bench.hello()
    stranger = MemoryUnit(hardware_id="hw-2").request("d1")
    bench.key()
    package = await package_for(stranger)
    bench.write(package)
    assert bench.rc(bench.order(package.hashes)) == Rc.KEY_MISMATCH


async def test_what_was_made_for_another_unit_is_refused() -> None:
    bench = Bench()
    bench.hello()
    package = await package_for(bench.key(), hardware_id="hw-2")
    bench.write(package)
    assert bench.rc(bench.order(package.hashes)) == Rc.UNAUTHORISED


async def test_objects_that_are_no_certificates_are_refused() -> None:
    bench = Bench()
    bench.hello()
    package = replace(await package_for(bench.key()), chain=encode_certificates([b"no certificate"]))
    bench.write(package)
    assert bench.rc(bench.order(package.hashes)) == Rc.UNAUTHORISED


async def test_a_station_whose_certificate_ran_out_is_not_obeyed() -> None:
    bench = Bench()
    package = await written(bench)
    order = bench.order(package.hashes)
    call = Call(id=CallId(session=SESSION, sequence=99), request=order)
    handled = bench.link.handle(
        encode_call(call, group=DEFAULT_GROUP), nonce=DEVICE_NONCE, now=NOW + timedelta(days=2)
    )
    assert "time" in handled.refused


async def test_a_device_without_a_clock_does_not_judge_dates() -> None:
    bench = Bench()
    package = await written(bench)
    call = Call(id=CallId(session=SESSION, sequence=99), request=bench.order(package.hashes))
    handled = bench.link.handle(encode_call(call, group=DEFAULT_GROUP), nonce=DEVICE_NONCE, now=None)
    assert handled.refused == ""


async def test_proof_is_refused_where_the_certificate_came_another_way() -> None:
    bench, _ = await in_state(LinkState.ACTIVE)
    assert bench.unit.active is not None
    assert bench.unit.active.installation is not None
    bench.unit.active.installation = None
    assert bench.rc(requests.Prove(nonce=STATION_NONCE)) == Rc.STATE


async def test_power_loss_at_any_moment_keeps_the_state() -> None:
    for state in LinkState:
        bench, _ = await in_state(state)
        assert Bench(bench.unit).hello().state is state


def test_the_os_group_tells_stock_clients_the_size_of_the_buffer() -> None:
    header = smp.Header(op=smp.Op.READ, group=smp.OS_GROUP, sequence=3, command=smp.OS_PARAMETERS)
    packet = smp.parse(Bench().raw(smp.encode(header, {})))
    assert packet.body.integer("buf_size", highest=65535) == LARGEST_MESSAGE
    assert packet.body.integer("buf_count", highest=10) == 1


def test_other_groups_are_refused() -> None:
    header = smp.Header(op=smp.Op.WRITE, group=1, sequence=3, command=1)
    packet = smp.parse(Bench().raw(smp.encode(header, {})))
    assert packet.body.integer("rc", highest=100) == Rc.UNSUPPORTED


def test_answers_of_others_on_the_line_are_not_answered() -> None:
    header = smp.Header(op=smp.Op.READ_RESPONSE, group=DEFAULT_GROUP, sequence=3, command=0)
    assert (
        StationLink(MemoryUnit()).handle(smp.encode(header, {}), nonce=DEVICE_NONCE, now=NOW).answer is None
    )


def test_a_request_that_cannot_be_read_is_refused_and_the_session_goes_on() -> None:
    bench = Bench()
    bench.hello()
    header = smp.Header(op=smp.Op.WRITE, group=DEFAULT_GROUP, sequence=2, command=Command.IDENT)
    answer = parse_answer(
        bench.raw(smp.encode(header, {"s": SESSION, "q": 2, "id": "a/b"})), group=DEFAULT_GROUP
    )
    assert answer.reply == replies.Refusal(rc=Rc.UNSUPPORTED)
    assert bench.rc(requests.Ident(device_id="d1")) == 0


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(Command), st.sampled_from(smp.Op))
def test_no_bytes_make_the_link_fail(body: bytes, command: Command, op: smp.Op) -> None:
    bench = Bench()
    bench.hello()
    header = bytes([8 | op, 0]) + len(body).to_bytes(2, "big") + bytes([0, 71, 1, command])
    bench.link.handle(header + body, nonce=DEVICE_NONCE, now=NOW)
    bench.link.handle(body, nonce=DEVICE_NONCE, now=NOW)
    assert bench.unit.report().state in (LinkState.FRESH, LinkState.KEYED)


async def test_a_committed_fingerprint_is_that_of_the_leaf() -> None:
    bench, package = await in_state(LinkState.ACTIVE)
    assert package is not None
    assert bench.link.committed is not None
    assert bench.link.committed.fingerprint == hashlib.sha256(package.leaf).digest()
