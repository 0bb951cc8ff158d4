"""Rollovers without a network: each step done once, rehearsed without a trace, gone on with after a cut."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.notices import StateReport
from device_agent.wire.replies import Confirmed, Issued
from device_agent.wire.requests import Confirm, Done
from device_agent.wire.trust import FLEET_REALM
from fleet.ca.hierarchy import BOOTSTRAP_REALM
from fleet.core.authority import AuthorityState
from fleet.core.rollover import Insistence, RolloverEvent, RolloverState
from fleet.errors import BadInputError, NotFoundError, RefusedError, StoreError
from fleet.model import Purpose
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.context import Context
from fleet.ra.requests.answer import answer
from fleet.ra.requests.held_trust import note_state
from fleet.ra.succession import rollover, rollover_material, rollover_status, rollover_steps
from fleet.ra.succession.rollover_steps import Mode
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.authorities import list_authorities
from fleet.store.certificates import CertificateQuery, CertificateRecord, list_certificates, load_certificate
from fleet.store.rollovers import list_rollovers
from fleet.store.trust import load_held
from tests.desk import Desk, Unit, at_desk
from tests.homes import make_home, utc_now
from tests.rolling import ACTOR, prepare, signed, stand_by, step


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    home = await asyncio.to_thread(make_home, tmp_path / "home")
    async with at_desk(home, tmp_path) as opened:
        opened.clock.now = utc_now()
        yield opened


async def states(desk: Desk, realm: str = "prod") -> dict[str, str]:
    records = await desk.context.store.read(list_authorities, None)
    return {one.folder: one.state.value for one in records if one.realm == realm}


async def tell(desk: Desk, device_id: str, **said: object) -> None:
    """Let a device tell its state."""
    report = StateReport(agent="1", serial="0" * 32, **said)  # type: ignore[arg-type] # by name
    await note_state(desk.context, Identity(domain="prod", device_id=device_id), report.encode())


async def signer(desk: Desk, device_id: str) -> str:
    """Return which CA signs for a new device."""
    _, issued = await active(desk, device_id)
    record = await desk.context.store.read(load_certificate, issued.serial)
    records = await desk.context.store.read(list_authorities, None)
    return next(one.folder for one in records if one.issuer == record.issuer)


async def of_ours(desk: Desk, purpose: Purpose) -> list[CertificateRecord]:
    """Return the certificates of the home itself, oldest first."""
    found = await desk.context.store.read(list_certificates, CertificateQuery(purpose=purpose, limit=20))
    return sorted(found, key=lambda one: (one.created_at, one.name))


async def active(desk: Desk, device_id: str) -> tuple[Unit, Issued]:
    unit, issued = await desk.enrolled(device_id)
    reply = await answer(desk.context, desk.speaking(issued, device_id=device_id), Confirm(id="1"))
    assert isinstance(reply, Confirmed), reply
    return unit, issued


async def test_a_root_is_followed_step_by_step(desk: Desk) -> None:
    await active(desk, "d1")
    assert (await prepare(desk.context, "prod")).state is RolloverState.PREPARED
    assert await states(desk) == {
        "prod": "active",
        "prod/device-1": "active",
        "prod/device-2": "standby",
        "prod/root-2": "standby",
    }
    published = await step(desk.context, "prod", RolloverEvent.PUBLISH)
    assert (published.told, published.heard.missing) == (1, 1)
    await tell(desk, "d1", trust=(("prod", 1),))
    await step(desk.context, "prod", RolloverEvent.SWITCH)
    assert await states(desk) == {
        "prod": "retiring",
        "prod/device-1": "retiring",
        "prod/device-2": "active",
        "prod/root-2": "active",
    }


async def test_what_was_begun_goes_on_where_it_stopped(desk: Desk) -> None:
    first = await rollover.begin(desk.context, "prod", actor=ACTOR)
    again = await rollover.begin(desk.context, "prod", actor=ACTOR)
    assert again == first
    material = await asyncio.to_thread(signed, desk.context, again)
    done = await rollover_material.complete(desk.context, "prod", material, actor=ACTOR)
    assert await rollover_material.complete(desk.context, "prod", material, actor=ACTOR) == done
    assert len(await desk.context.store.read(list_rollovers, None)) == 1


async def test_material_that_came_in_half_is_completed_by_the_same_again(desk: Desk) -> None:
    order = await rollover.begin(desk.context, "prod", actor=ACTOR)
    material = await asyncio.to_thread(signed, desk.context, order)
    with pytest.raises(BadInputError, match="prod/device-2 is missing"):
        await rollover_material.complete(
            desk.context, "prod", replace(material, certificates=()), actor=ACTOR
        )
    done = await rollover_material.complete(desk.context, "prod", material, actor=ACTOR)
    assert done.state is RolloverState.PREPARED


async def test_material_that_does_not_hang_together_is_refused(desk: Desk) -> None:
    order = await rollover.begin(desk.context, "prod", actor=ACTOR)
    material = await asyncio.to_thread(signed, desk.context, order)
    root = material.root
    assert root is not None
    for wrong in (
        replace(root, link_pem=root.back_pem),
        replace(root, certificate_pem=order.root_pem),
        replace(root, crl=b"no list"),
        replace(root, bundles=root.bundles[::-1]),
        replace(root, bundles=(replace(root.bundles[0], signature=b"1"), root.bundles[1])),
        replace(root, bundles=(replace(root.bundles[0], realm="lab"), root.bundles[1])),
    ):
        with pytest.raises(BadInputError):
            await rollover_material.complete(desk.context, "prod", replace(material, root=wrong), actor=ACTOR)
    with pytest.raises(BadInputError, match="another kind of material"):
        await rollover_material.complete(desk.context, "prod", replace(material, root=None), actor=ACTOR)
    assert "prod/root-2" not in await states(desk)


async def test_a_rehearsal_tells_all_and_changes_nothing(desk: Desk) -> None:
    await active(desk, "d1")
    await prepare(desk.context, "prod")
    before = await states(desk), len(await desk.context.store.read(audit.search, AuditQuery(limit=1000)))
    told = await step(desk.context, "prod", RolloverEvent.PUBLISH, mode=Mode.REHEARSE)
    assert (told.rollover.state, told.told, told.refusal) == (RolloverState.PUBLISHED, 1, "")
    told = await step(desk.context, "prod", RolloverEvent.RETIRE, mode=Mode.REHEARSE)
    assert "prepared: it cannot retire now" in told.refusal
    after = await states(desk), len(await desk.context.store.read(audit.search, AuditQuery(limit=1000)))
    assert after == before


async def test_every_step_is_on_the_trail_and_done_once(desk: Desk) -> None:
    await prepare(desk.context, "prod")
    for event in (RolloverEvent.PUBLISH, RolloverEvent.SWITCH, RolloverEvent.RETIRE):
        await step(desk.context, "prod", event)
        await step(desk.context, "prod", event)
    trail = await desk.context.store.read(audit.search, AuditQuery(limit=1000))
    actions = [one.entry.action for one in trail if one.entry.action.startswith("rollover.")]
    assert sorted(actions) == [
        "rollover.prepared",
        "rollover.published",
        "rollover.published",
        "rollover.requested",
        "rollover.retired",
        "rollover.switched",
    ]


async def test_the_old_ca_signs_until_the_new_one_does(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that does not open stops a switch half way: it is ordered again, and no device had an outage."""
    await prepare(desk.context, "prod")
    await step(desk.context, "prod", RolloverEvent.PUBLISH)

    async def fails(context: Context) -> None:
        raise StoreError("the key of prod/device-2 cannot be opened")

    with monkeypatch.context() as broken:
        broken.setattr(rollover_steps, "reload_authority", fails)
        for device_id in ("d1", "d2"):
            with pytest.raises(StoreError):
                await step(desk.context, "prod", RolloverEvent.SWITCH, insistence=Insistence.GO_ON)
            assert (await states(desk))["prod/device-1"] == AuthorityState.ACTIVE
            assert await signer(desk, device_id) == "prod/device-1"
    await step(desk.context, "prod", RolloverEvent.SWITCH)
    assert (await states(desk))["prod/device-1"] == AuthorityState.RETIRING
    assert await signer(desk, "d3") == "prod/device-2"


@pytest.mark.parametrize(
    ("realm", "purpose"), [(FLEET_REALM, Purpose.SERVER), (BOOTSTRAP_REALM, Purpose.CLAIM)]
)
async def test_what_the_home_has_of_an_old_root_it_gets_of_the_new_one_once(
    desk: Desk, realm: str, purpose: Purpose
) -> None:
    before = await of_ours(desk, purpose)
    await prepare(desk.context, realm)
    for event in (RolloverEvent.PUBLISH, RolloverEvent.SWITCH, RolloverEvent.SWITCH):
        await step(desk.context, realm, event)
    known = {one.serial for one in before}
    new = [one for one in await of_ours(desk, purpose) if one.serial not in known]
    signing = {one.issuer_id for one in desk.context.authority.issuers if one.state is AuthorityState.ACTIVE}
    assert sorted(one.name for one in new) == sorted(one.name for one in before)
    assert {one.issuer for one in new} <= signing
    assert not {one.issuer for one in before} & signing


async def test_a_switch_in_spite_of_silence_is_told_on_the_trail(desk: Desk) -> None:
    await active(desk, "d1")
    await prepare(desk.context, "prod")
    await step(desk.context, "prod", RolloverEvent.PUBLISH)
    with pytest.raises(RefusedError, match="prod:d1"):
        await step(desk.context, "prod", RolloverEvent.SWITCH)
    await step(desk.context, "prod", RolloverEvent.SWITCH, insistence=Insistence.GO_ON)
    (entry,) = await desk.context.store.read(audit.search, AuditQuery(action="rollover.switched", limit=9))
    assert ("not_heard_of", "1") in entry.entry.details


async def test_a_rollover_of_which_nobody_was_told_is_abandoned_whatever_was_made(desk: Desk) -> None:
    await rollover.begin(desk.context, "prod", actor=ACTOR)
    await step(desk.context, "prod", RolloverEvent.ABANDON)
    await prepare(desk.context, "lab")
    await step(desk.context, "lab", RolloverEvent.ABANDON)
    assert (await states(desk))["prod/device-2"] == AuthorityState.WITHDRAWN
    assert (await prepare(desk.context, "prod")).brings == ("prod/root-2", "prod/device-3")


async def test_two_rollovers_of_one_realm_do_not_run_at_once(desk: Desk) -> None:
    await prepare(desk.context, "prod")
    with pytest.raises(RefusedError, match="under way"):
        await rollover.begin(desk.context, "prod/device-1", actor=ACTOR)


@pytest.mark.parametrize("name", ["moon", "prod/device-9", "prod/root-2"])
async def test_what_is_not_there_is_not_followed(desk: Desk, name: str) -> None:
    with pytest.raises(NotFoundError):
        await rollover.plan(desk.context, name)


async def test_an_answer_links_a_device_that_slept_through_two_rollovers(desk: Desk) -> None:
    held = desk.context.authority.root("prod").anchor
    for _ in range(2):
        await prepare(desk.context, "prod")
        for event in (RolloverEvent.PUBLISH, RolloverEvent.SWITCH, RolloverEvent.RETIRE):
            await step(desk.context, "prod", event)
    link = desk.context.authority.link("prod", (held,))
    assert link is not None
    assert link.count("BEGIN CERTIFICATE") == 2
    assert desk.context.authority.link("prod", ("0" * 64,)) is None
    newest = desk.context.authority.root("prod").anchor
    assert desk.context.authority.link("prod", (held, newest)) is None


async def test_an_answer_brings_the_bundles_in_force(desk: Desk) -> None:
    await prepare(desk.context, "prod")
    await step(desk.context, "prod", RolloverEvent.PUBLISH)
    _, issued = await active(desk, "d1")
    assert [(one.realm, one.version) for one in issued.bundles] == [("prod", 1)]
    _, other = await desk.enrolled("d1", domain="lab")
    assert other.bundles == ()


async def test_what_a_device_says_is_kept_from_its_state_and_from_its_requests(desk: Desk) -> None:
    _, issued = await active(desk, "d1")
    who = Identity(domain="prod", device_id="d1")
    await tell(desk, "d1", anchors=("a" * 64,), trust=((FLEET_REALM, 3),), problem="trust-forged")
    held = await desk.context.store.read(load_held, who)
    assert held is not None
    assert (held.anchors, held.own_version, held.server_version) == (("a" * 64,), 0, 3)
    speaking = desk.speaking(issued)
    await answer(desk.context, speaking, Done(id="2", anchors=("b" * 64,), trust=(("prod", 2),)))
    held = await desk.context.store.read(load_held, who)
    assert held is not None
    assert (held.anchors, held.own_version, held.problem) == (("b" * 64,), 2, "trust-forged")
    await answer(desk.context, speaking, Done(id="3"))
    assert await desk.context.store.read(load_held, who) == held, "an older agent says nothing of it"


async def test_a_state_of_nobody_and_one_that_cannot_be_read_change_nothing(desk: Desk) -> None:
    who = Identity(domain="prod", device_id="nobody")
    await tell(desk, "nobody", trust=(("prod", 2),))
    await note_state(desk.context, who, b"{}")
    assert await desk.context.store.read(load_held, who) is None


async def test_an_older_agent_acknowledges_by_the_root_that_it_holds(desk: Desk) -> None:
    await active(desk, "d1")
    await prepare(desk.context, "prod")
    await step(desk.context, "prod", RolloverEvent.PUBLISH)
    root = next(one for one in desk.context.authority.roots if one.record.folder == "prod/root-2")
    await tell(desk, "d1", anchors=(root.anchor,))
    assert (await rollover_status.show(desk.context, "prod")).heard.missing == 0


async def test_a_rehearsal_names_the_new_cas_and_who_stands_by_and_leaves_nothing(desk: Desk) -> None:
    standby = await stand_by(desk.context)
    await reload_authority(desk.context)
    before = await states(desk)
    rehearsed = await rollover.rehearse(desk.context, "prod")
    assert rehearsed.rollover.brings == ("prod/root-2", "prod/device-3")
    assert rehearsed.standing_by == (standby,)
    assert (await states(desk), await desk.context.store.read(list_rollovers, None)) == (before, ())
    begun = await rollover.begin(desk.context, "prod", actor=ACTOR)
    assert begun.rollover.brings == rehearsed.rollover.brings
    assert (await rollover.rehearse(desk.context, "prod")).rollover == begun.rollover


async def test_a_rehearsal_is_refused_where_another_rollover_is_under_way(desk: Desk) -> None:
    await prepare(desk.context, "prod")
    with pytest.raises(RefusedError, match="under way"):
        await rollover.rehearse(desk.context, "prod")
