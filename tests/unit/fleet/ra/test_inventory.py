"""Marks, groups, owners and acts by query, on a real store: what is said, and what is refused to whom."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.notices import StateReport
from device_agent.wire.requests import Confirm
from fleet.core.marking import Changes, Marking
from fleet.core.names import attributes_named
from fleet.core.query_text import parse_query
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, Role, Standing
from fleet.ports import Transaction
from fleet.ra import devices
from fleet.ra.acts import deciding
from fleet.ra.acts.guard import ProposedError
from fleet.ra.acts.resuming import resume_all
from fleet.ra.acts.suspending import SuspendOrder, suspend_or_propose
from fleet.ra.inventory import groups, marking, owners
from fleet.ra.inventory.marking import Speaker, mark_each, mark_page
from fleet.ra.inventory.marks_file import read_marks
from fleet.ra.keeping.replay_acts import EFFECTS
from fleet.ra.performers import PERFORMERS
from fleet.ra.requests.answer import answer
from fleet.ra.requests.held_trust import note_state
from fleet.ra.requests.renewing import RenewOrder, renew_or_propose
from fleet.ra.selection import by_query, preview
from fleet.store import audit
from fleet.store.attributes import put_attributes, vouched
from fleet.store.audit import AuditQuery
from fleet.store.certificates import CertificateQuery, list_certificates
from fleet.store.groups import Group
from fleet.store.inventory import DeviceQuery
from fleet.store.marks import marks_of
from fleet.store.notices import early_renewal
from fleet.store.owners import Owner, contacts_of
from tests.desk import Desk, at_desk
from tests.homes import FleetHome

ADA, LOCAL = "operator:ada", "operator:local"
OPERATOR = Speaker(actor=ADA, role=Role.OPERATOR)
D1, D2, D3 = (Identity(domain="prod", device_id=f"d{number}") for number in (1, 2, 3))
OUTDOOR = Marking(tags=Changes(put=("outdoor",)))


async def three(desk: Desk) -> None:
    for name in ("d1", "d2", "d3"):
        await desk.register(name)


async def found(desk: Desk, query: str) -> list[str]:
    asked = DeviceQuery(condition=parse_query(query).condition, now=desk.clock())
    return [each.identity.device_id for each in await devices.list_devices(desk.context, asked)]


async def trail(desk: Desk, action: str) -> list[AuditEntry]:
    entries = await desk.context.store.read(audit.search, AuditQuery(action=action))
    return [each.entry for each in entries]


async def acme(desk: Desk) -> Owner:
    owner = Owner(name="acme", contacts=("a@acme.example", "b@acme.example"), added_at=desk.clock())
    return await owners.save(desk.context, owner, actor=ADA)


async def test_what_is_said_of_devices_is_found_shown_and_on_record_once(desk: Desk) -> None:
    await three(desk)
    await acme(desk)
    said = Marking(model="TX", owner="acme", attributes=(("site", "Graz"),), tags=Changes(put=("outdoor",)))
    for _ in range(2):
        done = await mark_each(desk.context, ((D1, said), (D2, OUTDOOR)), speaker=OPERATOR)
    assert (done.found, done.changed) == (2, 0)

    assert await found(desk, "owner=acme model=TX attr.site=Graz tag=outdoor") == ["d1"]
    assert await found(desk, "tag=outdoor") == ["d1", "d2"]
    marks = (await devices.show(desk.context, D1)).marks
    assert (marks.model, marks.owner, marks.tags) == ("TX", "acme", ("outdoor",))
    first, second = await trail(desk, "device.marked")
    assert (first.actor, first.device_id) == (ADA, "d1")
    told = {"model": "TX", "owner": "acme", "tags": "outdoor", "attribute site": "Graz"}
    assert dict(first.details) == told
    assert dict(second.details) == {"tags": "outdoor"}


async def test_all_that_fit_a_query_are_marked_page_by_page(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(desk)
    monkeypatch.setattr(marking, "PAGE", 1)
    selection = by_query("id=d1 or id=d2", now=desk.clock())
    after, pages = None, 0
    while True:
        done = await mark_page(desk.context, selection, OUTDOOR, after=after, speaker=OPERATOR)
        pages += done.found
        after = done.following
        if after is None:
            break
    assert (pages, await found(desk, "tag=outdoor")) == (2, ["d1", "d2"])


async def test_everything_is_selected_only_by_who_says_so(desk: Desk) -> None:
    await three(desk)
    with pytest.raises(BadInputError, match="selects all 3 devices of the fleet") as caught:
        await mark_page(
            desk.context, by_query("id=d*", now=desk.clock()), OUTDOOR, after=None, speaker=OPERATOR
        )
    assert "all" in str(caught.value.hint)
    assert await found(desk, "tag=outdoor") == []
    shown = await preview(desk.context, by_query("all", now=desk.clock()))
    assert (shown.devices, shown.fleet, shown.sample) == (3, 3, (D1, D2, D3))


async def test_one_device_that_is_not_there_keeps_all_from_being_marked(desk: Desk) -> None:
    await three(desk)
    nobody = Identity(domain="prod", device_id="nobody")
    with pytest.raises(NotFoundError, match="prod:nobody is not registered"):
        await mark_each(desk.context, ((D1, OUTDOOR), (nobody, OUTDOOR)), speaker=OPERATOR)
    assert await found(desk, "tag=outdoor") == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Marking(owner="nobody"), "there is no owner nobody"),
        (Marking(groups=Changes(put=("none",))), "there is no group none"),
        (Marking(groups=Changes(put=("late",))), "group late is a query"),
    ],
)
async def test_who_or_what_is_not_there_is_not_given(desk: Desk, said: Marking, why: str) -> None:
    await three(desk)
    late = Group(name="late", query="tag=late", made_at=desk.clock())
    await groups.add(desk.context, late, actor=ADA)
    with pytest.raises((NotFoundError, RefusedError), match=why):
        await mark_each(desk.context, ((D1, said),), speaker=OPERATOR)


@pytest.mark.parametrize("standing", ["enrolled", "registered", "suspended"])
async def test_what_the_access_policy_asks_for_is_said_by_who_decides_about_access(
    desk: Desk, standing: str
) -> None:
    await (desk.register("d1") if standing == "registered" else desk.enrolled("d1"))
    if standing == "suspended":
        await devices.suspend(desk.context, D1, actor=ADA, reason="")
    await desk.context.store.write(ask_for_tags, None)
    with pytest.raises(RefusedError, match="the access policy asks for tag"):
        await mark_each(desk.context, ((D1, OUTDOOR),), speaker=OPERATOR)
    owned = Marking(attributes=(("site", "graz"),))
    assert (await mark_each(desk.context, ((D1, owned),), speaker=OPERATOR)).changed == 1
    assert await found(desk, "tag=outdoor") == []
    security = Speaker(actor=ADA, role=Role.SECURITY)
    assert (await mark_each(desk.context, ((D1, OUTDOOR),), speaker=security)).changed == 1


async def test_a_device_never_takes_the_place_of_what_somebody_else_said_of_it(desk: Desk) -> None:
    await desk.register("d1")
    await desk.context.store.write(say, (D1, "operator:ada", "yes"))
    await desk.context.store.write(say, (D1, "template", "no"))
    assert await desk.context.store.read(vouched, D1) == (("quarantine", "yes"),)
    await desk.context.store.write(say, (D1, "webhook", "maybe"))
    assert await desk.context.store.read(vouched, D1) == (("quarantine", "maybe"),)


async def say(tx: Transaction, said: tuple[Identity, str, str]) -> None:
    identity, source, value = said
    await put_attributes(tx, identity, {"quarantine": value}, source=source)


async def ask_for_tags(tx: Transaction, _argument: None) -> None:
    await tx.execute(
        "INSERT INTO access_policies (number, text, digest, asks, applied_at, actor)"
        " VALUES (1, '', '', '[\"tag\"]', '2030-06-01T12:00:00Z', 'operator:ada')"
    )


async def test_members_of_a_group_are_put_in_and_of_a_query_found(desk: Desk) -> None:
    await three(desk)
    await groups.add(desk.context, Group(name="pilot", made_at=desk.clock()), actor=ADA)
    late = Group(name="late", query="tag=late or id=d3", made_at=desk.clock())
    for _ in range(2):
        await groups.add(desk.context, late, actor=ADA)
    into = Marking(groups=Changes(put=("pilot",)))
    await mark_each(desk.context, ((D1, into), (D2, Marking(tags=Changes(put=("late",))))), speaker=OPERATOR)

    assert await found(desk, "group=pilot") == ["d1"]
    assert await found(desk, "group=late") == ["d2", "d3"]
    assert await found(desk, "not group=*") == []
    shown = await groups.list_all(desk.context)
    assert [(view.group.name, view.devices) for view in shown] == [("late", 2), ("pilot", 1)]
    with pytest.raises(RefusedError, match="1 device was put into group pilot"):
        await groups.remove(desk.context, "pilot", actor=ADA)
    await mark_each(desk.context, ((D1, Marking(groups=Changes(take=("pilot",)))),), speaker=OPERATOR)
    await groups.remove(desk.context, "pilot", actor=ADA)
    with pytest.raises(NotFoundError, match="there is no group pilot"):
        await groups.show(desk.context, "pilot")


@pytest.mark.parametrize("query", ["", "colour=red", "group=other"])
async def test_a_group_whose_query_is_none_or_asks_for_groups_is_refused(desk: Desk, query: str) -> None:
    with pytest.raises(BadInputError):
        await groups.add(desk.context, Group(name="g", query=query, made_at=desk.clock()), actor=ADA)
    assert await trail(desk, "group.added") == []


async def test_an_owner_s_contacts_are_told_of_his_devices(desk: Desk) -> None:
    await three(desk)
    await acme(desk)
    await mark_each(desk.context, ((D1, Marking(owner="acme")),), speaker=OPERATOR)

    told = await desk.context.store.read(contacts, (D1, D2))
    assert told == {D1: ("acme", ("a@acme.example", "b@acme.example"))}
    with pytest.raises(RefusedError, match="acme owns 1 device"):
        await owners.remove(desk.context, "acme", actor=ADA)
    await mark_each(desk.context, ((D1, Marking(owner="")),), speaker=OPERATOR)
    for _ in range(2):
        await owners.remove(desk.context, "acme", actor=ADA)
    with pytest.raises(NotFoundError, match="there is no owner acme"):
        await mark_each(desk.context, ((D1, Marking(owner="acme")),), speaker=OPERATOR)
    await acme(desk)
    assert [each.action for each in await trail(desk, "owner.*")] == [
        "owner.added",
        "owner.removed",
        "owner.added",
    ]


async def contacts(
    tx: Transaction, identities: tuple[Identity, ...]
) -> dict[Identity, tuple[str, tuple[str, ...]]]:
    return {one: (each.owner, each.addresses) for one, each in (await contacts_of(tx, identities)).items()}


async def test_a_restore_says_again_what_was_said(desk: Desk) -> None:
    await three(desk)
    await acme(desk)
    await groups.add(desk.context, Group(name="pilot", made_at=desk.clock()), actor=ADA)
    said = Marking(
        model="TX",
        owner="acme",
        attributes=(("site", "Graz"),),
        tags=Changes(put=("a", "b")),
        groups=Changes(put=("pilot",)),
    )
    await mark_each(desk.context, ((D1, said),), speaker=OPERATOR)
    await mark_each(desk.context, ((D1, Marking(model="", tags=Changes(take=("a",)))),), speaker=OPERATOR)
    entries = await trail(desk, "")
    before = await desk.context.store.read(marks_of, D1)

    await desk.context.store.write(forget, None)
    assert (await desk.context.store.read(marks_of, D1)).tags == ()
    await desk.context.store.write(replay, tuple(entries))

    assert await desk.context.store.read(marks_of, D1) == before
    assert (await owners.show(desk.context, "acme")).contacts == ("a@acme.example", "b@acme.example")


async def forget(tx: Transaction, _argument: None) -> None:
    for table in (
        "group_members",
        "device_groups",
        "device_tags",
        "device_attributes",
        "owner_contacts",
        "owners",
    ):
        await tx.execute(f"DELETE FROM {table}")
    await tx.execute("UPDATE devices SET owner = '', model = ''")


async def replay(tx: Transaction, entries: tuple[AuditEntry, ...]) -> None:
    for entry in entries:
        if entry.action.startswith(("owner.", "group.")) or entry.action == "device.marked":
            await EFFECTS[entry.action](tx, entry)


def test_a_table_says_something_of_each_device() -> None:
    text = (
        "\ufeffdevice_id,domain,owner,tags,attr.site,standing\r\n"
        'd1,,acme,"a b",Graz,active\r\n\r\nd2,lab,,,"Wien, West",\r\n'
    )
    first, second = read_marks(text, domain="prod")
    assert first == (
        D1,
        Marking(owner="acme", tags=Changes(put=("a", "b")), attributes=(("site", "Graz"),)),
    )
    assert second[0] == Identity(domain="lab", device_id="d2")
    assert second[1] == Marking(attributes=(("site", "Wien, West"),))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1: it needs device_id"),
        ("owner\nacme\n", "line 1: it needs device_id"),
        ("device_id,colour\nd1,red\n", "line 1: there is no column 'colour'"),
        ("device_id,owner,owner\nd1,a,b\n", "line 1: it needs device_id, and each once"),
        ("device_id,owner\nd1\n", "line 2: 1 cells, not 2"),
        ("device_id,owner\nd1,a\na/b,a\n", "line 3: device id"),
        ("device_id,tags\nd1,a/b\n", "line 2: 'a/b' can be no name of a tag"),
        ("device_id\nd1\nd1\n", "a device stands in two lines"),
        ('device_id\n"d1', "line 2: "),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why.replace("(", r"\(")):
        read_marks(text, domain="prod")


@given(
    st.text()
    | st.lists(st.sampled_from(["device_id", ",", "\n", "d1", '"', "tags", "a b", "attr.x"])).map("".join)
)
def test_any_text_is_a_table_or_refused(text: str) -> None:
    try:
        read_marks(text, domain="prod")
    except BadInputError as error:
        assert error.hint  # noqa: PT017 - any other error fails


async def test_devices_are_suspended_by_query_and_much_needs_a_second_operator(desk: Desk) -> None:
    for number in range(12):
        await desk.register(f"a{number:02d}", batch=None)
    await desk.register("b1")
    few = await suspend_or_propose(desk.context, SuspendOrder(query="id=a00"), actor=ADA)
    assert few.names == ("prod:a00",)

    with pytest.raises(ProposedError) as caught:
        await suspend_or_propose(desk.context, SuspendOrder(query="id=a*", reason="recall"), actor=LOCAL)
    assert await found(desk, "standing=suspended") == ["a00"]
    await deciding.approve(desk.context, caught.value.proposal, actor="operator:admin", performers=PERFORMERS)
    assert len(await found(desk, "standing=suspended")) == 12
    assert (await devices.show(desk.context, Identity(domain="prod", device_id="b1"))).summary.standing is (
        Standing.REGISTERED
    )


async def test_devices_go_on_by_query_but_those_with_an_alarm(desk: Desk) -> None:
    await three(desk)
    for identity in (D1, D2):
        await devices.suspend(desk.context, identity, actor=ADA, reason="")
    await desk.context.store.write(alarm, D2)
    done = await resume_all(desk.context, "all", actor=ADA, reason="found again")
    assert (done.names, done.passed_over) == (("prod:d1",), ("prod:d2", "prod:d3"))
    assert (await resume_all(desk.context, "all", actor=ADA, reason="")).names == ()
    with pytest.raises(NotFoundError, match="nothing fits"):
        await resume_all(desk.context, "tag=nosuch", actor=ADA, reason="")


async def alarm(tx: Transaction, identity: Identity) -> None:
    await tx.execute("UPDATE devices SET alarm = 2 WHERE device_id = ?", (identity.device_id,))


async def test_devices_are_made_due_by_query_once(desk: Desk) -> None:
    await desk.register("d2")
    _, issued = await desk.enrolled("d1")
    await answer(desk.context, desk.speaking(issued), Confirm(id="c"))
    order = RenewOrder(query="id=d1", within=timedelta(hours=2))
    first = await renew_or_propose(desk.context, order, actor=ADA)
    again = await renew_or_propose(desk.context, order, actor=ADA)
    assert (first.found, first.hastened, again.hastened) == (1, 1, 0)
    due = await desk.context.store.read(early_renewal, issued.serial)
    assert due is not None
    assert desk.clock() <= due <= desk.clock() + order.within
    with pytest.raises(NotFoundError, match="nothing fits the query"):
        await renew_or_propose(desk.context, RenewOrder(query="id=zz", within=timedelta()), actor=ADA)


async def test_what_has_nothing_to_renew_is_not_counted_among_much(desk: Desk) -> None:
    for number in range(20):
        await desk.register(f"new{number}")
    _, issued = await desk.enrolled("d1")
    await answer(desk.context, desk.speaking(issued), Confirm(id="c"))
    order = RenewOrder(query="all", within=timedelta(hours=2))
    done = await renew_or_propose(desk.context, order, actor=ADA)
    assert (done.found, done.hastened) == (21, 1)


async def test_the_version_that_an_agent_tells_is_found(desk: Desk) -> None:
    await three(desk)
    report = StateReport(agent="1.4.2", serial="0" * 32)
    for _ in range(2):
        await note_state(desk.context, D1, report.encode())
    assert await found(desk, "version=1.4.*") == ["d1"]
    assert await found(desk, 'version=""') == ["d2", "d3"]


async def test_certificates_are_listed_by_what_their_devices_are(desk: Desk) -> None:
    _, first = await desk.enrolled("d1")
    _, second = await desk.enrolled("d2")
    await mark_each(desk.context, ((D1, OUTDOOR),), speaker=OPERATOR)

    async def serials(query: str) -> list[str]:
        asked = CertificateQuery(devices=parse_query(query).condition, now=desk.clock())
        return [each.serial for each in await desk.context.store.read(list_certificates, asked)]

    assert await serials("tag=outdoor") == [first.serial]
    assert await serials("tag=outdoor or id=d2") == sorted([first.serial, second.serial])
    assert await serials("not tag=outdoor and registered<1d") == [second.serial]


async def test_what_a_device_has_said_of_itself_is_vouched_for_once_an_operator_says_it(desk: Desk) -> None:
    await three(desk)
    await desk.context.store.write(say_of_itself, D1)
    assert await desk.context.store.read(vouched, D1) == ()
    for value in ("", "Graz"):
        await mark_each(desk.context, ((D1, Marking(tags=Changes(put=("x",)))),), speaker=OPERATOR)
        said = Marking(attributes=(("site", value),)) if value else OUTDOOR
        await mark_each(desk.context, ((D1, said),), speaker=OPERATOR)
    assert await desk.context.store.read(vouched, D1) == (("site", "Graz"),)
    assert (await mark_each(desk.context, ((D1, said),), speaker=OPERATOR)).changed == 0


async def say_of_itself(tx: Transaction, identity: Identity) -> None:
    await put_attributes(tx, identity, {"site": "Graz"}, source="template")


def test_the_attributes_that_names_are_made_of_are_known() -> None:
    patterns = (
        "{id}.{attribute.site}.example.org",
        "{attribute.line}.{fleet}.example.org",
        "plain.example.org",
    )
    assert attributes_named(patterns) == {"site", "line"}


NAMING = """
[fleet]
name = "acme"
[domains.prod.profiles.gateway]
names = ["{id}.{attribute.site}.example.org"]
[domains.lab]
"""


async def test_what_names_are_made_of_is_said_by_who_decides_about_names(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    site = Marking(attributes=(("site", "graz"),))
    async with at_desk(fleet_home, tmp_path, toml=NAMING) as desk:
        await desk.register("d1")
        await desk.register("d1", domain="lab")
        with pytest.raises(RefusedError, match="makes names in certificates of the attribute site"):
            await mark_each(desk.context, ((D1, site),), speaker=OPERATOR)
        assert await found(desk, "attr.site=graz") == []
        lab = Identity(domain="lab", device_id="d1")
        assert (await mark_each(desk.context, ((lab, site),), speaker=OPERATOR)).changed == 1
        security = Speaker(actor=ADA, role=Role.SECURITY)
        assert (await mark_each(desk.context, ((D1, site),), speaker=security)).changed == 1


async def test_of_an_owner_who_is_known_only_what_is_said_changes(desk: Desk) -> None:
    known = Owner(name="acme", about="Acme", contacts=("ops@acme.example",), added_at=desk.clock())
    await owners.save(desk.context, known, actor=ADA)
    bare = Owner(name="acme", about="Acme Inc", contacts=(), added_at=desk.clock())
    changed = await owners.save(desk.context, bare, actor=ADA, said=frozenset({"about"}))
    assert (changed.about, changed.contacts) == ("Acme Inc", known.contacts)
    assert (await owners.save(desk.context, bare, actor=ADA)).contacts == ()


async def test_groups_that_are_queries_make_no_query_longer_than_it_may_be(desk: Desk) -> None:
    await desk.register("d1")
    for number in range(10):
        terms = " or ".join(f"tag=t{each}" for each in range(40))
        await groups.add(desk.context, Group(name=f"g{number}", query=terms, made_at=desk.clock()), actor=ADA)
    assert await found(desk, "group=g1 or group=g2") == []
    for query in ("group=*", " or ".join(["group=g1"] * 10)):
        with pytest.raises(BadInputError, match="256 is the most"):
            await found(desk, query)
