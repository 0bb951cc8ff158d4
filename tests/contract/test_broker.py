"""The contract of `BrokerEnforcer`, kept by every driver with real TLS clients: who gets in, who hears what,
who is dropped, and what the server is told."""

import asyncio
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import BadInputError, SequenceGapError
from fleet.model import AllowlistChange, BrokerEventKind, Purpose
from tests.broker_world import (
    KEY_HASH,
    OTHER_KEY_HASH,
    World,
    now,
)
from tests.mqtt import NOT_AUTHORISED, REFUSED_SUBSCRIPTION, Message
from tests.pki import Pki, entry_of, self_signed

# Who gets in.


async def test_an_allowlisted_device_is_let_in_under_its_name(world: World) -> None:
    await world.let_in(world.device, "prod:d1")

    names = {session.name: session for session in await world.broker.sessions()}

    assert names["prod:d1"].serial == world.device.serial
    assert names["prod:d1"].issuer == world.device.issuer_id


async def test_a_certificate_of_the_right_issuer_that_is_not_on_the_list_is_refused(world: World) -> None:
    assert await world.is_refused(world.home.pki.device("d3"), "prod:d3")


async def test_a_second_certificate_of_a_listed_device_is_refused_unless_listed_itself(world: World) -> None:
    assert await world.is_refused(world.home.pki.device("d1"), "prod:d1")


async def test_a_certificate_with_a_listed_issuer_and_serial_but_other_bytes_is_refused(world: World) -> None:
    serial = world.device.certificate.serial_number
    forged = world.home.pki.devices["prod"].leaf("d1", serial=serial)

    assert await world.is_refused(forged, "prod:d1")


async def test_a_certificate_that_has_expired_is_refused_though_listed(world: World) -> None:
    expired = world.home.pki.device("d3", not_after=now() - timedelta(minutes=1))
    late = entry_of(expired, "prod:d3", not_after=now() + timedelta(days=1))
    await world.broker.change(AllowlistChange(sequence=2, added=(late,)))

    assert await world.is_refused(expired, "prod:d3")


async def test_a_certificate_whose_entry_has_ended_is_refused(world: World) -> None:
    pair = world.home.pki.device("d3")
    ended = entry_of(pair, "prod:d3", not_after=now() - timedelta(minutes=1))
    await world.broker.change(AllowlistChange(sequence=2, added=(ended,)))

    assert await world.is_refused(pair, "prod:d3")


async def test_a_self_signed_certificate_is_refused(world: World) -> None:
    assert await world.is_refused(self_signed("d1"), "prod:d1")


async def test_another_domains_certificate_with_the_same_common_name_is_refused(world: World) -> None:
    assert await world.is_refused(world.home.pki.device("d1", domain="lab"), "prod:d1")


async def test_another_domains_certificate_with_the_same_serial_number_is_refused(world: World) -> None:
    serial = world.device.certificate.serial_number
    other = world.home.pki.devices["lab"].leaf("d1", serial=serial)

    assert await world.is_refused(other, "prod:d1")


async def test_a_client_without_a_certificate_is_refused(world: World) -> None:
    assert await world.is_refused(None, "prod:d1")


async def test_an_operators_certificate_is_refused_though_its_root_is_trusted(world: World) -> None:
    assert await world.is_refused(world.home.pki.operator(), "admin")


async def test_a_device_is_refused_at_the_bootstrap_listener(world: World) -> None:
    assert await world.is_refused(world.device, "prod:d1", bootstrap=True)


async def test_a_claim_is_refused_at_the_operational_listener(world: World) -> None:
    assert await world.is_refused(world.claim, KEY_HASH)


@pytest.mark.parametrize(
    "client_id", ["prod:d2", "d1", "prod:d1 ", "", "fleet-server", "a/b", "+", "prod:d1\x01"]
)
async def test_a_device_with_another_client_id_than_its_name_is_refused(world: World, client_id: str) -> None:
    assert await world.is_refused(world.device, client_id)


@pytest.mark.parametrize("client_id", ["fleet-server", "fleet-server.requests"])
async def test_the_service_may_be_connected_in_parts(world: World, client_id: str) -> None:
    await world.let_in(world.home.service, client_id)


@pytest.mark.parametrize("client_id", ["fleet-serverx", "fleet-server.", "fleet-server.A", "prod:d1"])
async def test_the_service_cannot_be_connected_as_anything_else(world: World, client_id: str) -> None:
    assert await world.is_refused(world.home.service, client_id)


async def test_a_user_name_that_the_client_gives_itself_counts_for_nothing(world: World) -> None:
    client = await world.open(world.device)
    assert await client.connect("prod:d1", username="prod:d2") == 0

    assert await client.subscribe("devices/prod/d2/#") == [REFUSED_SUBSCRIPTION]


# Whose topics.


async def test_a_device_publishes_and_hears_its_own_topics(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1")
    assert await device.subscribe("devices/prod/d1/#") == [1]

    await device.publish("devices/prod/d1/telemetry", b"21.5")

    assert await device.receive() == Message(topic="devices/prod/d1/telemetry", body=b"21.5")


async def test_a_device_asks_the_server_under_the_serial_of_its_own_certificate(world: World) -> None:
    server, device = await world.server(), await world.let_in(world.device, "prod:d1")
    await server.subscribe("fleet/v1/+/+/+/request")
    base = f"fleet/v1/prod/d1/{world.device.serial}"
    await device.subscribe(f"{base}/response")

    await device.publish(f"{base}/request", b"ask")
    asked = await server.receive()
    await server.publish(f"{base}/response", b"answer")

    assert (asked.topic, (await device.receive()).body) == (f"{base}/request", b"answer")


FOREIGN_FILTERS = [
    "devices/prod/d2/#",
    "devices/prod/d2/x",
    "devices/prod/+/#",
    "devices/+/d1/#",
    "devices/lab/d1/#",
    "devices/#",
    "#",
    "+/+/+/+",
    "$share/group/devices/prod/d1/#",
    "$share/group/fleet/v1/+/+/+/request",
    "$SYS/#",
    "$CONTROL/fleet/v1",
    "$fleet/guard/events",
    "$fleet/#",
    "fleet/v1/prod/d2/notice",
    "fleet/v1/prod/d1/+/response",
    f"fleet/v1/prod/d1/{'4' * 32}/response",
    "fleet/v1/+/+/+/request",
    f"fleet/v1/enroll/{KEY_HASH}/response",
]


@pytest.mark.parametrize("topic_filter", FOREIGN_FILTERS)
async def test_a_device_cannot_subscribe_what_is_not_its_own(world: World, topic_filter: str) -> None:
    device = await world.let_in(world.device, "prod:d1")

    assert await device.subscribe(topic_filter) == [REFUSED_SUBSCRIPTION]


async def test_what_a_device_publishes_to_its_neighbours_topics_is_not_delivered(world: World) -> None:
    victim, rogue = (
        await world.let_in(world.neighbour, "prod:d2"),
        await world.let_in(world.device, "prod:d1"),
    )
    await victim.subscribe("devices/prod/d2/#", "fleet/v1/prod/d2/notice")

    await rogue.publish("devices/prod/d2/x", b"forged")
    await rogue.publish("fleet/v1/prod/d2/notice", b"forged", retain=True)
    await rogue.ping()
    await victim.publish("devices/prod/d2/mark", b"end")

    assert (await victim.receive()).body == b"end"


async def test_a_request_under_another_serial_does_not_reach_the_server(world: World) -> None:
    server, device = await world.server(), await world.let_in(world.device, "prod:d1")
    await server.subscribe("fleet/v1/+/+/+/request")

    await device.publish(f"fleet/v1/prod/d1/{world.neighbour.serial}/request", b"forged")
    await device.publish(f"fleet/v1/prod/d2/{world.device.serial}/request", b"forged")
    await device.publish(f"fleet/v1/prod/d1/{world.device.serial}/request", b"true")

    assert (await server.receive()).body == b"true"


async def test_a_last_will_on_a_neighbours_topic_is_not_delivered(world: World) -> None:
    victim, rogue = await world.let_in(world.neighbour, "prod:d2"), await world.open(world.device)
    await victim.subscribe("devices/prod/d2/#")
    will = Message(topic="devices/prod/d2/x", body=b"forged")
    assert await rogue.connect("prod:d1", will=will) == 0
    events = world.broker.events()

    await rogue.close()
    await world.next_event(events, of="prod:d1")
    await world.next_event(events, of="prod:d1")
    await victim.publish("devices/prod/d2/mark", b"end")

    assert (await victim.receive()).body == b"end"


async def test_a_retained_notice_reaches_nobody_but_its_device(world: World) -> None:
    server = await world.server()
    neighbour = await world.let_in(world.neighbour, "prod:d2", clean=False)
    assert await neighbour.subscribe("fleet/v1/prod/d2/notice") == [1]
    await neighbour.disconnect()
    device = await world.let_in(world.device, "prod:d1", clean=False)
    assert await device.subscribe("fleet/v1/prod/d1/notice") == [1]

    await server.publish("fleet/v1/prod/d1/notice", b"for d1", retain=True)
    heard = await device.receive()
    back = await world.let_in(world.neighbour, "prod:d2", clean=False)

    assert (heard.body, await back.received()) == (b"for d1", [])


async def test_a_retained_notice_waits_for_its_device(world: World) -> None:
    server = await world.server()
    await server.publish("fleet/v1/prod/d1/notice", b"for d1", retain=True)

    device = await world.let_in(world.device, "prod:d1")
    await device.subscribe("fleet/v1/prod/d1/notice")

    assert await device.receive() == Message(topic="fleet/v1/prod/d1/notice", body=b"for d1", retained=True)


# One client id, one connection.


async def test_a_neighbour_cannot_take_over_a_session(world: World) -> None:
    victim = await world.let_in(world.neighbour, "prod:d2", clean=False)
    await victim.subscribe("devices/prod/d2/#")

    assert await world.is_refused(world.device, "prod:d2")
    await victim.publish("devices/prod/d2/mark", b"still here")

    assert (await victim.receive()).body == b"still here"


async def test_a_device_that_connects_again_replaces_its_own_connection(world: World) -> None:
    first = await world.let_in(world.device, "prod:d1")
    second = await world.let_in(world.device, "prod:d1")

    await first.wait_closed()
    await second.ping()

    assert [session.name for session in await world.broker.sessions()].count("prod:d1") == 1


async def test_rotation_loses_no_message_of_a_kept_session(world: World) -> None:
    server = await world.server()
    device = await world.let_in(world.device, "prod:d1", clean=False)
    await device.subscribe("devices/prod/d1/#")
    renewed = world.home.pki.device("d1")
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(renewed, "prod:d1"),)))

    await device.close()
    for number in range(20):
        await server.publish("devices/prod/d1/order", str(number).encode())
    back = await world.let_in(renewed, "prod:d1", clean=False)
    got = {(await back.receive()).body for _ in range(20)}

    assert got == {str(number).encode() for number in range(20)}


async def test_rotation_under_load_loses_no_message_of_a_kept_session(world: World) -> None:
    server = await world.server()
    device = await world.let_in(world.device, "prod:d1", clean=False)
    await device.subscribe("devices/prod/d1/#")
    renewed = world.home.pki.device("d1")
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(renewed, "prod:d1"),)))
    sent = {str(number).encode() for number in range(200)}

    async with asyncio.TaskGroup() as group:
        group.create_task(device.wait_closed())
        for number, body in enumerate(sorted(sent)):
            await server.publish("devices/prod/d1/order", body)
            if number == 100:
                successor = await world.let_in(renewed, "prod:d1", clean=False)
    heard = {message.body for message in device.messages}
    while heard != sent:
        heard.add((await successor.receive()).body)

    assert heard == sent


# Who is dropped.


async def test_a_revocation_drops_the_live_session_and_refuses_its_return(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1")

    cut_offs = await world.broker.change(AllowlistChange(sequence=2, removed=(world.entry,)))
    await device.wait_closed()

    assert [(cut.name, cut.serial) for cut in cut_offs] == [("prod:d1", world.device.serial)]
    assert 0 < cut_offs[0].cut_off_ms < 10_000
    assert await world.is_refused(world.device, "prod:d1")


async def test_a_revocation_leaves_everybody_else_alone(world: World) -> None:
    await world.let_in(world.device, "prod:d1")
    neighbour = await world.let_in(world.neighbour, "prod:d2")

    await world.broker.change(AllowlistChange(sequence=2, removed=(world.entry,)))

    await neighbour.ping()


async def test_a_superseded_certificate_is_cut_off_while_its_successor_stays(world: World) -> None:
    renewed = world.home.pki.device("d1")
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(renewed, "prod:d1"),)))
    device = await world.let_in(renewed, "prod:d1")

    cut_offs = await world.broker.change(AllowlistChange(sequence=3, removed=(world.entry,)))
    await device.ping()

    assert list(cut_offs) == []
    assert await world.is_refused(world.device, "prod:d1")


async def test_a_revoked_devices_will_is_not_published(world: World) -> None:
    server, device = await world.server(), await world.open(world.device)
    await server.subscribe("devices/+/+/#")
    will = Message(topic="devices/prod/d1/gone", body=b"will")
    assert await device.connect("prod:d1", will=will) == 0

    await world.broker.change(AllowlistChange(sequence=2, removed=(world.entry,)))
    await device.wait_closed()
    await server.publish("devices/prod/d2/mark", b"end")

    assert (await server.receive()).body == b"end"


async def test_a_session_is_dropped_when_its_certificate_expires(world: World) -> None:
    short = world.home.pki.device("d3", not_after=now() + timedelta(seconds=3))
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(short, "prod:d3"),)))
    device = await world.let_in(short, "prod:d3")
    events = world.broker.events()

    await device.wait_closed()
    await world.next_event(events, of="prod:d3")
    ended = await world.next_event(events, of="prod:d3")

    assert (ended.kind, ended.reason) == (BrokerEventKind.DISCONNECTED, "expired")


async def test_a_kicked_device_may_come_back(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1")

    cut_offs = await world.broker.kick("prod:d1")
    await device.wait_closed()

    assert [cut.name for cut in cut_offs] == ["prod:d1"]
    await world.let_in(world.device, "prod:d1")


@pytest.mark.parametrize("name", ["prod:nobody", "", "a b", "x\n1 kick prod:d1", "prod:\u0434"])
async def test_a_kick_of_somebody_who_is_not_there_drops_nobody(world: World, name: str) -> None:
    device = await world.let_in(world.device, "prod:d1")

    assert list(await world.broker.kick(name)) == []
    await device.ping()


async def test_a_whole_list_drops_whom_it_does_not_name(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1")
    neighbour = await world.let_in(world.neighbour, "prod:d2")

    await world.broker.replace(world.home.allowlist(*world.entries[1:], sequence=7))
    await device.wait_closed()
    await neighbour.ping()

    assert await world.is_refused(world.device, "prod:d1")


# Changes without a gap.


@pytest.mark.parametrize("sequence", [0, 1, 3, 1000])
async def test_a_change_that_is_not_the_next_one_changes_nothing(world: World, sequence: int) -> None:
    device = await world.let_in(world.device, "prod:d1")

    with pytest.raises(SequenceGapError):
        await world.broker.change(AllowlistChange(sequence=sequence, removed=(world.entry,)))

    await device.ping()


async def test_a_change_that_does_not_fit_is_answered_with_a_gap_until_the_whole_list_comes(
    world: World,
) -> None:
    stranger = entry_of(world.home.pki.device("d9"), "prod:d9")
    with pytest.raises(SequenceGapError):
        await world.broker.change(AllowlistChange(sequence=2, removed=(stranger,)))

    await world.broker.replace(world.home.allowlist(*world.entries, sequence=9))
    await world.broker.change(AllowlistChange(sequence=10, removed=(world.entry,)))

    assert await world.is_refused(world.device, "prod:d1")


async def test_a_change_adds_before_it_removes(world: World) -> None:
    renewed = world.home.pki.device("d1")
    change = AllowlistChange(sequence=2, added=(entry_of(renewed, "prod:d1"),), removed=(world.entry,))

    await world.broker.change(change)

    assert await world.is_refused(world.device, "prod:d1")
    await world.let_in(renewed, "prod:d1")


async def test_an_empty_change_keeps_the_sequence(world: World) -> None:
    await world.broker.change(AllowlistChange(sequence=2))
    await world.broker.change(AllowlistChange(sequence=3, removed=(world.entry,)))

    assert await world.is_refused(world.device, "prod:d1")


async def test_certificates_that_no_broker_admits_do_not_disturb_the_list(world: World) -> None:
    operator = world.home.pki.operator()
    entry = entry_of(operator, "admin", purpose=Purpose.OPERATOR)
    await world.broker.change(AllowlistChange(sequence=2, added=(entry,)))
    await world.broker.change(AllowlistChange(sequence=3, removed=(entry,)))

    assert await world.is_refused(operator, "admin")
    await world.let_in(world.device, "prod:d1")


async def test_the_list_is_in_doubt_at_the_start_and_settled_by_a_whole_one(
    world: World,
) -> None:
    doubt = asyncio.ensure_future(world.broker.doubtful())
    done, _ = await asyncio.wait([doubt], timeout=0.05)
    doubt.cancel()

    assert done == set()
    assert world.broker.age() < timedelta(minutes=1)


# What the server is told.


async def test_connections_refusals_and_ends_are_told_in_their_order(world: World) -> None:
    events = world.broker.events()
    before = await world.broker.stamp()

    device = await world.let_in(world.device, "prod:d1")
    await device.close()
    connected = await world.next_event(events, of="prod:d1")
    ended = await world.next_event(events, of="prod:d1")
    await world.is_refused(world.home.pki.device("d1"), "prod:d1")
    refused = await world.next_event(events, of="prod:d1")

    kinds = [event.kind for event in (connected, ended, refused)]
    assert kinds == [BrokerEventKind.CONNECTED, BrokerEventKind.DISCONNECTED, BrokerEventKind.REFUSED]
    assert before < connected.stamp < ended.stamp < refused.stamp <= await world.broker.stamp()
    assert (connected.name, connected.serial, connected.issuer) == (
        "prod:d1",
        world.device.serial,
        world.device.issuer_id,
    )
    assert (refused.reason, refused.name, connected.address) == ("unlisted", "", "127.0.0.1")


async def test_a_stamp_grows_by_one_for_each_event(world: World) -> None:
    events = world.broker.events()
    for _ in range(3):
        await (await world.let_in(world.device, "prod:d1")).close()
        await world.next_event(events, of="prod:d1")
        last = await world.next_event(events, of="prod:d1")

    assert last.stamp == await world.broker.stamp()


@pytest.mark.parametrize(
    ("client_id", "reason"), [("prod:d2", "client-id"), ("x" * 300, "client-id"), ("a b\u00e9%", "client-id")]
)
async def test_a_refusal_tells_the_name_and_the_reason(world: World, client_id: str, reason: str) -> None:
    events = world.broker.events()

    assert await world.is_refused(world.device, client_id)

    async with asyncio.timeout(10):
        async for event in events:
            if event.kind is BrokerEventKind.REFUSED:
                break
    assert (event.name, event.reason) == ("prod:d1", reason)
    assert client_id.startswith(event.client_id)


# The bootstrap link.


async def test_a_claim_sends_its_request_and_hears_its_answer(world: World) -> None:
    server, client = await world.server(), await world.let_in(world.claim, KEY_HASH, bootstrap=True)
    await server.subscribe("fleet/v1/enroll/+/request")
    await client.subscribe(f"fleet/v1/enroll/{KEY_HASH}/response")

    await client.publish(f"fleet/v1/enroll/{KEY_HASH}/request", b"csr")
    asked = await server.receive()
    await server.publish(f"fleet/v1/enroll/{KEY_HASH}/response", b"certificate")

    assert (asked.body, (await client.receive()).body) == (b"csr", b"certificate")


@pytest.mark.parametrize(
    "topic_filter",
    [
        f"fleet/v1/enroll/{OTHER_KEY_HASH}/response",
        "fleet/v1/enroll/+/response",
        "fleet/v1/enroll/#",
        "fleet/v1/enroll/+/request",
        "$share/server/fleet/v1/enroll/+/request",
        f"$share/server/fleet/v1/enroll/{KEY_HASH}/response",
        "devices/#",
    ],
)
async def test_a_claim_hears_nothing_but_its_own_answer(world: World, topic_filter: str) -> None:
    client = await world.let_in(world.claim, KEY_HASH, bootstrap=True)

    assert await client.subscribe(topic_filter) == [REFUSED_SUBSCRIPTION]


async def test_a_claim_cannot_ask_for_another_key(world: World) -> None:
    server, client = await world.server(), await world.let_in(world.claim, KEY_HASH, bootstrap=True)
    await server.subscribe("fleet/v1/enroll/+/request")

    await client.publish(f"fleet/v1/enroll/{OTHER_KEY_HASH}/request", b"forged")
    await client.publish(f"fleet/v1/enroll/{OTHER_KEY_HASH}/response", b"forged")
    await client.publish(f"fleet/v1/enroll/{KEY_HASH}/request", b"true")

    assert (await server.receive()).body == b"true"


async def test_a_live_claim_cannot_be_evicted_by_another_with_its_client_id(world: World) -> None:
    victim = await world.let_in(world.claim, KEY_HASH, bootstrap=True)
    await victim.subscribe(f"fleet/v1/enroll/{KEY_HASH}/response")
    server = await world.server()

    assert await world.is_refused(world.claim, KEY_HASH, bootstrap=True)
    await server.publish(f"fleet/v1/enroll/{KEY_HASH}/response", b"certificate")

    assert (await victim.receive()).body == b"certificate"


async def test_a_claim_leaves_no_retained_message(world: World) -> None:
    """Whoever has the public claim could fill the broker, and a request may hold a code."""
    client = await world.let_in(world.claim, KEY_HASH, bootstrap=True)
    await client.publish(f"fleet/v1/enroll/{KEY_HASH}/request", b"for ever", retain=True)
    will = Message(topic=f"fleet/v1/enroll/{OTHER_KEY_HASH}/request", body=b"for ever", retained=True)
    dying = await world.open(world.claim, bootstrap=True)
    assert await dying.connect(OTHER_KEY_HASH, will=will) == 0
    await dying.close()
    events = world.broker.events()
    await world.next_event(events, of=OTHER_KEY_HASH)
    await world.next_event(events, of=OTHER_KEY_HASH)

    server = await world.server()
    await server.subscribe("fleet/v1/enroll/+/request")

    assert await server.received() == []


async def test_a_claim_that_left_frees_its_client_id_and_leaves_nothing(world: World) -> None:
    first = await world.let_in(world.claim, KEY_HASH, bootstrap=True)
    await first.subscribe(f"fleet/v1/enroll/{KEY_HASH}/response")
    await first.disconnect()
    server, events = await world.server(), world.broker.events()
    await world.next_event(events, of=KEY_HASH)
    await world.next_event(events, of=KEY_HASH)
    await server.publish(f"fleet/v1/enroll/{KEY_HASH}/response", b"certificate")

    second = await world.let_in(world.claim, KEY_HASH, bootstrap=True)

    assert await second.received() == []


@pytest.mark.parametrize(
    "client_id",
    ["prod:d1", "prod:d9", "sdk:1", "fleet-server", "fleet-server.requests", "", "x" * 129, "a\x01b"],
)
async def test_a_claim_cannot_be_connected_under_somebodys_name(world: World, client_id: str) -> None:
    assert await world.is_refused(world.claim, client_id, bootstrap=True)


@pytest.mark.parametrize("client_id", [KEY_HASH.upper(), KEY_HASH[:-1], "batch-1", "+"])
async def test_a_claim_enrolls_under_no_client_id_but_the_digest_of_a_key(
    world: World, client_id: str
) -> None:
    client = await world.let_in(world.claim, client_id, bootstrap=True)

    assert await client.subscribe(f"fleet/v1/enroll/{client_id}/response") == [REFUSED_SUBSCRIPTION]
    assert await client.subscribe(f"fleet/v1/enroll/{KEY_HASH}/response") == [REFUSED_SUBSCRIPTION]


@pytest.mark.parametrize(("keepalive_s", "clean"), [(0, True), (16, True), (10, False)])
async def test_a_claim_must_not_linger(world: World, keepalive_s: int, clean: bool) -> None:
    client = await world.open(world.claim, bootstrap=True)

    assert await client.connect(KEY_HASH, keepalive_s=keepalive_s, clean=clean) == NOT_AUTHORISED


# TLS sessions and the second layer.


def resumed(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> tuple[int, ssl.SSLSocket]:
    """Connect with or without a TLS session; return the code of CONNACK and the socket."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    tls = context.wrap_socket(raw, server_hostname="localhost", session=session)
    tls.sendall(b"\x10\x13\x00\x04MQTT\x04\x02\x00\x0a\x00\x07prod:d1")
    return tls.recv(4)[3], tls


async def test_a_tls_session_from_before_a_revocation_lets_nobody_in(world: World) -> None:
    context, port = world.home.context(world.device), world.broker.endpoints.operational_port
    code, first = await asyncio.to_thread(resumed, context, port, None)
    session = first.session
    await asyncio.to_thread(first.close)
    again, second = await asyncio.to_thread(resumed, context, port, session)
    was_resumed = second.session_reused
    await asyncio.to_thread(second.close)

    await world.broker.change(AllowlistChange(sequence=2, removed=(world.entry,)))
    after, third = await asyncio.to_thread(resumed, context, port, session)
    await asyncio.to_thread(third.close)

    assert (code, again, was_resumed, after) == (0, 0, True, NOT_AUTHORISED)


async def test_what_a_crl_names_is_refused_though_listed(world: World, tmp_path: Path) -> None:
    authority = world.home.pki.devices["prod"]
    authority.revoked.append(world.device.certificate.serial_number)
    try:
        await world.broker.publish_crls(world.home.crls())
    finally:
        authority.revoked.pop()

    assert await world.is_refused(world.device, "prod:d1")
    await world.let_in(world.neighbour, "prod:d2")


async def test_a_bad_crl_changes_nothing(world: World) -> None:
    good = list(world.home.crls())
    forged = Pki(domains=("prod",)).devices["prod"].crl()
    stale = world.home.crls(next_update=now() - timedelta(seconds=1))
    for bad in ([b"garbage", *good[1:]], [good[0][:-5], *good[1:]], good[1:], [forged, *good[1:]], stale):
        with pytest.raises(BadInputError):
            await world.broker.publish_crls(bad)

    await world.let_in(world.device, "prod:d1")


# Bad input.


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x00" * 64,
        b"\x10\xff\xff\xff\xff\xff",
        b"\x10\xff\xff\xff\x7f" + b"x" * 100,
        b"\x10\x02\x00\x04",
        b"\x30\x05\x00\x03a/bx",
        b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x0a\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_connect_ends_its_own_connection_only(world: World, packet: bytes) -> None:
    neighbour = await world.let_in(world.neighbour, "prod:d2")
    rogue = await world.open(world.device)

    rogue.writer.write(packet)
    rogue.writer.write_eof() if rogue.writer.can_write_eof() else await rogue.close()

    await neighbour.ping()
    await world.let_in(world.device, "prod:d1")


@pytest.mark.parametrize("topic", ["a/+/b", "#", "$SYS/x", "$CONTROL/fleet/v1", "$fleet/guard/events", ""])
async def test_a_device_that_publishes_where_nobody_may_gains_nothing(world: World, topic: str) -> None:
    neighbour = await world.let_in(world.neighbour, "prod:d2")
    rogue = await world.let_in(world.device, "prod:d1")

    await rogue.publish(topic, b"1 kick prod:d2\n", qos=0)
    await rogue.close()

    await neighbour.ping()
    await world.let_in(world.device, "prod:d1")
