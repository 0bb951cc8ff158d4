"""The contract of every broker on topics that AWS clients share: each connection hears its own answers only,
whoever shares its claim certificate, whatever its client id is."""

import asyncio

import pytest

from fleet.core import isolation
from fleet.core.isolation import SharedLink
from fleet.model import AllowlistChange, Purpose
from tests.broker_world import KEY_HASH, World
from tests.mqtt import REFUSED_SUBSCRIPTION, Message, MqttClient, NotLetInError
from tests.pki import entry_of

CREATE = "$aws/certificates/create-from-csr/json"
ACCEPTED = f"{CREATE}/accepted"
REGISTER = "$aws/provisioning-templates/line3/provision/json"
STRANGE_IDS = [
    "a+b",
    "a/b/#",
    "+",
    "#",
    "$SYS/broker",
    "$share/g/x",
    " with spaces ",
    "gerät-π-\U0001f510",
    "x" * 128,
    "%41",
    "accepted",
    KEY_HASH.upper(),
]


async def listening(world: World) -> MqttClient:
    """The server, as it hears what is asked on shared topics."""
    server = await world.server()
    assert await server.subscribe(isolation.REQUESTS, qos=0) == [0]
    return server


async def sdk(world: World, client_id: str, *, clean: bool = True) -> MqttClient:
    client = await world.let_in(world.claim, client_id, bootstrap=True, clean=clean)
    assert await client.subscribe(ACCEPTED, f"{CREATE}/rejected") == [1, 1]
    return client


async def asked(server: MqttClient) -> tuple[SharedLink, str, bytes]:
    message = await server.receive()
    link, topic = isolation.parse_request(message.topic)
    return link, topic, message.body


async def test_a_request_says_which_connection_asks_by_which_certificate(world: World) -> None:
    server, client = await listening(world), await sdk(world, "sdk-1")

    await client.publish(CREATE, b"csr")
    link, topic, body = await asked(server)

    assert (topic, body) == (CREATE, b"csr")
    assert (link.issuer, link.serial) == (world.claim.issuer_id, world.claim.serial)
    assert link.client_id == "sdk-1"


@pytest.mark.parametrize("client_id", STRANGE_IDS)
async def test_whatever_its_client_id_a_client_hears_its_own_answer(world: World, client_id: str) -> None:
    server, client, neighbour = await listening(world), await sdk(world, client_id), await sdk(world, "other")

    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)
    await server.publish(link.answer(ACCEPTED), b"for one")

    assert link.client_id == client_id
    assert await client.receive() == Message(topic=ACCEPTED, body=b"for one")
    assert await neighbour.received() == []


async def test_many_that_share_a_claim_each_hear_their_own_answer(world: World) -> None:
    server = await listening(world)
    clients = [await sdk(world, f"sdk-{number}") for number in range(12)]
    eavesdropper = await sdk(world, "eavesdropper")

    for client in clients:
        await client.publish(CREATE, f"of {clients.index(client)}".encode())
    for _ in clients:
        link, _, body = await asked(server)
        await server.publish(link.answer(ACCEPTED), body)

    heard = [(await client.receive()).body for client in clients]
    assert heard == [f"of {number}".encode() for number in range(len(clients))]
    assert [await client.received() for client in [*clients, eavesdropper]] == [[]] * (len(clients) + 1)


async def test_an_eavesdropper_cannot_subscribe_more_than_the_plain_topics(world: World) -> None:
    eavesdropper = await sdk(world, "eavesdropper")
    server, client = await listening(world), await sdk(world, "sdk-1")
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)

    wanted = [
        "#",
        "$aws/#",
        "$aws/+/+/+/+",
        f"{CREATE}/#",
        f"$share/thieves/{ACCEPTED}",
        CREATE,
        "$fleet/#",
        isolation.REQUESTS,
        isolation.ANSWERS,
        link.request(CREATE),
        link.answer(ACCEPTED),
        f"$share/thieves/{isolation.REQUESTS}",
    ]
    assert [await eavesdropper.subscribe(one) for one in wanted] == [[REFUSED_SUBSCRIPTION]] * len(wanted)
    await server.publish(link.answer(ACCEPTED), b"for one")
    assert (await client.receive()).body == b"for one"
    assert await eavesdropper.received() == []


async def test_who_shares_the_claim_can_neither_answer_nor_ask_as_another(world: World) -> None:
    server, client, rogue = await listening(world), await sdk(world, "sdk-1"), await sdk(world, "rogue")
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)

    await rogue.publish(link.request(CREATE), b"forged")
    await rogue.publish(link.answer(ACCEPTED), b"forged")
    await rogue.publish(ACCEPTED, b"forged")
    await rogue.publish(CREATE, b"its own")
    asking, _, body = await asked(server)

    assert (asking.client_id, body) == ("rogue", b"its own")
    assert await client.received() == []


async def test_nothing_is_retained_of_what_is_asked(world: World) -> None:
    client = await sdk(world, "sdk-1")
    await client.publish(CREATE, b"for ever", retain=True)
    dying = await world.open(world.claim, bootstrap=True)
    will = Message(topic=CREATE, body=b"for ever", retained=True)
    assert await dying.connect("dying", will=will) in {0, 5}
    events = world.broker.events()
    await dying.close()
    await world.next_event(events, of="dying")

    server, late = await listening(world), await sdk(world, "late")

    assert await server.received() == []
    assert await late.received() == []


async def test_a_last_will_asks_nothing_and_reaches_nobody(world: World) -> None:
    server, listener = await listening(world), await sdk(world, "listener")
    dying = await world.open(world.claim, bootstrap=True)
    events = world.broker.events()
    assert await dying.connect("dying", will=Message(topic=CREATE, body=b"csr")) == 0
    await dying.close()
    await world.next_event(events, of="dying")
    await world.next_event(events, of="dying")
    await listener.publish(CREATE, b"mark")

    _, _, body = await asked(server)

    assert body == b"mark"
    assert await listener.received() == []


async def test_an_answer_that_comes_late_is_not_for_who_has_the_client_id_now(world: World) -> None:
    server, client = await listening(world), await sdk(world, "sdk-1", clean=False)
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)

    thief = await sdk(world, "sdk-1", clean=False)
    await client.wait_closed()
    await server.publish(link.answer(ACCEPTED), b"for the first")

    assert await thief.received() == []


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
async def test_a_thief_who_comes_in_the_very_moment_of_an_answer_gets_nothing(
    world: World, leaves: bool
) -> None:
    server = await listening(world)
    for _ in range(25):
        client = await sdk(world, "sdk-1", clean=False)
        thief = await world.open(world.claim, bootstrap=True)
        await client.publish(CREATE, b"csr")
        link, _, _ = await asked(server)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.publish(link.answer(ACCEPTED), b"for the first", qos=0))
            if leaves:
                group.create_task(client.close())
            taken = group.create_task(thief.connect("sdk-1", clean=False))
        if taken.result() == 0:
            assert await thief.received() == []
        await thief.close()
        await client.close()


async def test_an_answer_to_nobody_waits_in_no_session(world: World) -> None:
    server, client = await listening(world), await sdk(world, "sdk-1", clean=False)
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)
    events = world.broker.events()
    await client.close()
    while (await world.next_event(events, of="sdk-1")).kind != "disconnected":
        pass
    await server.publish(link.answer(ACCEPTED), b"for the first")

    back = await world.let_in(world.claim, "sdk-1", bootstrap=True, clean=False)

    assert await back.received() == []


async def test_a_newcomer_with_the_same_client_id_takes_over(world: World) -> None:
    """As at AWS: a device that lost its power must not wait for its keep-alive."""
    first = await sdk(world, "sdk-1")
    second = await sdk(world, "sdk-1")

    await first.wait_closed()
    await second.ping()


async def test_a_link_of_another_run_certificate_or_client_is_nobodys(world: World) -> None:
    server, client = await listening(world), await sdk(world, "sdk-1")
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)
    run, _, number = link.name.partition("-")
    for name, serial, client_id in [
        (f"{'0' * 16}-{number}", link.serial, link.client_id),
        (f"{run}-{int(number) + 1}", link.serial, link.client_id),
        (link.name, "4" * 32, link.client_id),
        (link.name, link.serial, "other"),
    ]:
        other = SharedLink(issuer=link.issuer, serial=serial, client_id=client_id, name=name)
        await server.publish(other.answer(ACCEPTED), b"astray")
    await server.publish(link.answer("devices/prod/d1/x"), b"astray")
    await server.publish(link.answer(CREATE), b"astray")
    await server.publish(link.answer(ACCEPTED), b"right")

    assert (await client.receive()).body == b"right"
    assert await client.received() == []


async def test_a_device_reaches_nothing_of_it(world: World) -> None:
    server, device, client = (
        await listening(world),
        await world.let_in(world.device, "prod:d1"),
        await sdk(world, "sdk-1"),
    )
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)

    assert await device.subscribe(ACCEPTED, isolation.REQUESTS) == [REFUSED_SUBSCRIPTION] * 2
    for topic in (CREATE, REGISTER, link.answer(ACCEPTED), link.request(CREATE)):
        try:
            await device.publish(topic, b"forged", qos=0)
            await device.ping()
        except (ConnectionError, NotLetInError):
            break
    await client.publish(REGISTER, b"true")

    assert (await asked(server))[1:] == (REGISTER, b"true")
    assert await client.received() == []


async def test_a_revoked_claim_hears_nothing_any_more(world: World) -> None:
    server, client = await listening(world), await sdk(world, "sdk-1")
    await client.publish(CREATE, b"csr")
    link, _, _ = await asked(server)
    entry = entry_of(world.claim, "batch-1", purpose=Purpose.CLAIM)

    await world.broker.change(AllowlistChange(sequence=2, removed=(entry,)))
    await client.wait_closed()
    await server.publish(link.answer(ACCEPTED), b"late")

    assert client.messages == []


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_burst_is_answered_whole(world: World, qos: int) -> None:
    server, client = await listening(world), await sdk(world, "sdk-1")
    for number in range(50):
        await client.publish(CREATE, str(number).encode(), qos=qos)
    for _ in range(50):
        link, _, body = await asked(server)
        await server.publish(link.answer(ACCEPTED), body)

    assert [(await client.receive()).body for _ in range(50)] == [
        str(number).encode() for number in range(50)
    ]
