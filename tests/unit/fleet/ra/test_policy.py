"""Changed profiles: what would be answered differently is told before it is in force, and changes nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Issued
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.config import parse
from fleet.core.ruling import Outcome
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.ra.people.assignments import Assignment, assign
from fleet.ra.requests.answer import answer
from fleet.ra.requests.dry_run import try_on
from fleet.ra.requests.policy import apply_policy, proposed
from fleet.ra.requests.profile_health import profiles
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.devices import load_record
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome

ADA = "operator:ada"
TOML = '[fleet]\nname = "acme"\n[domains.prod]\n'
WATCHED = TOML + "approval = true\n"
LARGE = TOML + 'key_types = ["p384"]\n'
SHORT = TOML + "lifetime_days = 30\n[domains.prod.profiles.gateway]\n"


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path, toml=TOML) as opened:
        (tmp_path / "home").mkdir()
        home = replace(opened.context.home, root=tmp_path / "home")
        home.config.write_text(TOML)
        yield replace(opened, context=replace(opened.context, home=home))


async def test_an_unchanged_configuration_makes_no_difference(desk: Desk) -> None:
    await desk.enrolled("d1")

    report = await try_on(desk.context, parse(TOML))
    assert (report.requests, report.different, report.differences) == (1, 0, ())


async def test_a_difference_is_told_with_who_before_after_and_why(desk: Desk) -> None:
    await desk.enrolled("d1")

    (large,) = (await try_on(desk.context, parse(LARGE))).differences
    assert large.facts.identity == Identity(domain="prod", device_id="d1")
    assert (large.before.outcome, large.after.outcome) == (Outcome.GRANTED, Outcome.REFUSED)
    assert large.why == "the profile device takes keys of type p384"
    (short,) = (await try_on(desk.context, parse(SHORT))).differences
    assert short.why == "lifetime_days 90 -> 30"
    (watched,) = (await try_on(desk.context, parse(WATCHED))).differences
    assert watched.why == "the profile wants an approval"


async def test_what_is_refused_now_and_would_not_be_is_a_difference_too(desk: Desk) -> None:
    desk.context.in_force.replace(config=parse(LARGE))
    identity = await desk.register("d1")
    unit = Unit(device_id="d1")
    await answer(desk.context, unit.at_bootstrap(), unit.enroll(await desk.code_for(identity)))

    (found,) = (await try_on(desk.context, parse(TOML))).differences
    assert (found.before.outcome, found.after.outcome) == (Outcome.REFUSED, Outcome.GRANTED)
    assert found.why == "no more: the profile device takes keys of type p384"


async def test_an_approval_that_is_wanted_no_more_is_a_difference(desk: Desk) -> None:
    desk.context.in_force.replace(config=parse(WATCHED))
    identity = await desk.register("d1")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)
    for _ in range(3):
        await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    report = await try_on(desk.context, parse(TOML))
    (found,) = report.differences
    assert (found.before.outcome, found.after.outcome) == (Outcome.WAITS, Outcome.GRANTED)
    assert found.why == "the profile wants no approval any more"
    assert report.requests == 1, "one that waits asks again and again, and is one request"


async def test_what_no_profile_decided_is_counted_and_stays_as_it_was(desk: Desk) -> None:
    await desk.register("d1")
    unit = Unit(device_id="d1")
    wrong = unit.enroll(Proof(kind=ProofKind.CODE, code=Secret("no such code")))
    await answer(desk.context, unit.at_bootstrap(), wrong)

    report = await try_on(desk.context, parse(LARGE))
    assert (report.requests, report.undecided, report.different) == (1, 1, 0)


async def test_the_same_difference_again_is_counted_and_told_once(desk: Desk) -> None:
    identity = await desk.register("d1")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)
    for _ in range(3):
        assert isinstance(await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof)), Issued)

    report = await try_on(desk.context, parse(LARGE), page=2)
    (found,) = report.differences
    assert (report.requests, report.different, found.times) == (3, 3, 3)


async def test_the_dry_run_changes_nothing(desk: Desk) -> None:
    await desk.enrolled("d1")
    before = await desk.context.store.read(audit.search, AuditQuery(limit=1000))

    await try_on(desk.context, parse(LARGE))
    assert await desk.context.store.read(audit.search, AuditQuery(limit=1000)) == before
    await desk.enrolled("d2")


async def test_a_changed_profile_is_in_force_once_it_is_applied(desk: Desk) -> None:
    desk.context.home.config.write_text(LARGE)

    assert (await apply_policy(desk.context, actor=ADA)).changed
    assert not (await apply_policy(desk.context, actor=ADA)).changed
    unit = Unit(device_id="d1", key=ec.generate_private_key(ec.SECP384R1()))
    request = unit.enroll(await desk.code_for(await desk.register("d1")))
    assert isinstance(await answer(desk.context, unit.at_bootstrap(), request), Issued)
    entries = await desk.context.store.read(audit.search, AuditQuery(action="policy.applied"))
    assert [(entry.entry.actor, entry.entry.details) for entry in entries] == [
        (ADA, (("changed", "prod.device"),))
    ]


@pytest.mark.parametrize(
    "text",
    [
        TOML + "[server]\nhttps_port = 1\n",
        TOML + "[domains.other]\n",
        TOML + 'ca_key = "p384"\n',
        TOML + "lifetime_days = 0\n",
    ],
)
async def test_what_needs_a_restart_or_is_wrong_is_refused_whole(desk: Desk, text: str) -> None:
    before = desk.context.config
    desk.context.home.config.write_text(text)

    with pytest.raises(BadInputError):
        await apply_policy(desk.context, actor=ADA)
    assert desk.context.config == before


async def test_a_proposal_is_of_this_fleet(desk: Desk) -> None:
    assert proposed(desk.context, "") == desk.context.config
    assert proposed(desk.context, LARGE) == parse(LARGE)
    with pytest.raises(BadInputError, match="other"):
        proposed(desk.context, LARGE.replace("acme", "other"))


async def test_a_profile_is_assigned_to_devices_and_batches_that_exist(desk: Desk) -> None:
    desk.context.in_force.replace(config=parse(SHORT))
    d1 = await desk.register("d1")

    await assign(desk.context, Assignment(domain="prod", profile="gateway", device_id="d1", actor=ADA))
    record = await desk.context.store.read(load_record, d1)
    assert record is not None
    assert record.profile == "gateway"
    for wrong in (
        Assignment(domain="prod", profile="gone", device_id="d1", actor=ADA),
        Assignment(domain="none", profile="gateway", device_id="d1", actor=ADA),
        Assignment(domain="prod", profile="gateway", device_id="d2", actor=ADA),
        Assignment(domain="prod", profile="gateway", batch="line3", actor=ADA),
    ):
        with pytest.raises((NotFoundError, RefusedError)):
            await assign(desk.context, wrong)


async def test_a_profile_that_devices_are_to_get_is_not_taken_away(desk: Desk) -> None:
    desk.context.in_force.replace(config=parse(SHORT))
    await desk.register("d1")
    await assign(desk.context, Assignment(domain="prod", profile="gateway", device_id="d1", actor=ADA))
    assert all(finding.ok for finding in await profiles(desk.context))

    with pytest.raises(RefusedError, match="prod has no profile gateway, which 1 devices"):
        await apply_policy(desk.context, actor=ADA)
    desk.context.in_force.replace(config=parse(TOML))
    (finding,) = await profiles(desk.context)
    assert not finding.ok
    assert finding.fix
