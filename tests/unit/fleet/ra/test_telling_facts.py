"""What people are told of: each matter, from where it arises to where it is over."""

from datetime import timedelta

import pytest

from fleet.core.causes import Cause
from fleet.core.history import contact
from fleet.core.matters import Matter, Severity
from fleet.core.notification import Change, Fact
from fleet.errors import StoreError
from fleet.model import BrokerEventKind, Purpose
from fleet.ra.crls import ListName, PublishedCrl
from fleet.ra.finding import bad
from fleet.ra.telling import looking
from fleet.ra.telling.facts import FACTS, Survey
from fleet.ra.telling.telling import turn
from fleet.store import contacts
from tests.desk import Desk
from tests.homes import utc_now
from tests.telling import amend, ending, entry, rule, told


async def test_what_happened_before_anybody_was_to_be_told_is_history(desk: Desk) -> None:
    people = told(desk, rule(Matter.ROLLOUT_HALTED))
    await entry(desk, "rollout.halted", ("rollout", "old"))
    await people.all()
    await entry(desk, "rollout.halted", ("rollout", "spring"), ("rule", "error rate"))

    await people.all()
    await people.all()

    (letter,) = people.letters()
    assert letter.items[0].subject.startswith("spring (audit entry ")
    assert letter.items[0].text == "by server: rule error rate"
    assert letter.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("action", "detail", "matter"),
    [
        ("proposal.made", "proposal", Matter.PROPOSAL_MADE),
        ("operator.readmission-asked", "name", Matter.READMISSION),
    ],
)
async def test_what_waits_for_another_operator_is_told(
    desk: Desk, action: str, detail: str, matter: Matter
) -> None:
    people = told(desk, rule(matter))
    await people.all()
    await entry(desk, action, (detail, "it"), ("act", "revoke"), ("digest", "0f"))
    await people.all()

    (letter,) = people.letters()
    assert letter.items[0].subject.startswith("it (audit entry ")
    assert letter.items[0].text == "by server: act revoke"


async def test_a_device_whose_renewal_is_refused_all_day_is_told_of_once_a_day(desk: Desk) -> None:
    people = told(desk, rule(Matter.RENEWAL_REFUSED))
    await people.all()
    for _ in range(36):
        await entry(desk, "request.refused", ("request", "renew"), ("code", "bad-key"), device="d1")
        await people.all()
        people.forward(hours=1)
    assert len(people.letters()) == 1

    people.forward(hours=30)
    await entry(desk, "request.refused", ("code", "frozen"), ("reason", "it is"), device="d1")
    await people.all()

    assert len(people.letters()) == 2


@pytest.mark.parametrize(
    ("device", "request_kind", "code"),
    [
        ("d1", "renew", "busy"),
        ("d1", "renew", "unavailable"),
        ("d1", "enroll", "bad-key"),
        ("", "renew", "x"),
    ],
)
async def test_a_refusal_that_ends_by_itself_or_is_no_renewal_is_not_told(
    desk: Desk, device: str, request_kind: str, code: str
) -> None:
    people = told(desk, rule(Matter.RENEWAL_REFUSED))
    await people.all()
    await entry(desk, "request.refused", ("request", request_kind), ("code", code), device=device)

    await people.all()

    assert not people.letters()


async def test_an_alarm_is_told_until_somebody_resolved_it(desk: Desk) -> None:
    people = told(desk, rule(Matter.DEVICE_ALARM))
    await ending(desk, 1, days=60)
    for alarm in (2, 0):
        await amend(desk.context, "UPDATE devices SET alarm = ?", alarm)
        await turn(people.context)
        await people.deliver()

    assert [item.change for letter in people.letters() for item in letter.items] == [
        Change.ARISES,
        Change.CLEARS,
    ]


async def test_an_alarm_that_came_and_went_between_two_looks_is_told(desk: Desk) -> None:
    people = told(desk, rule(Matter.DEVICE_ALARM))
    await turn(people.context)
    await entry(desk, "device.alarmed", ("evidence", "clone"), device="d1")
    await turn(people.context)
    desk.clock.forward(timedelta(minutes=2))
    await turn(people.context)
    await people.deliver()
    assert [item.change for letter in people.letters() for item in letter.items] == [
        Change.ARISES,
        Change.CLEARS,
    ]


async def test_the_doctor_is_heard_and_a_damaged_trail_is_a_matter_of_its_own(desk: Desk) -> None:
    people = told(desk, rule(Matter.DOCTOR, Matter.AUDIT_DAMAGED))
    people.findings = [bad("disk", "3 MiB are free", fix="x"), bad("audit trail", "entry 7 differs", fix="y")]
    await people.all()
    people.findings = []
    people.forward(minutes=5)
    await people.all()

    told_of = {(letter.matter, letter.is_over) for letter in people.letters()}
    assert told_of == {
        (matter, over) for matter in (Matter.DOCTOR, Matter.AUDIT_DAMAGED) for over in (False, True)
    }


async def test_a_backup_that_is_too_old_is_told_until_there_is_a_new_one(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD))
    await entry(desk, "backup.made")
    await people.all()
    assert not people.letters()
    people.forward(days=8)
    await people.all()
    await entry(desk, "backup.made")
    people.forward(minutes=5)
    await people.all()

    assert [letter.is_over for letter in people.letters()] == [False, True]


async def test_ends_of_cas_and_of_the_fleet_s_own_certificates_are_told(desk: Desk) -> None:
    desk.clock.now = utc_now()
    people = told(desk, rule(*(each for each in Matter if each.value.startswith("expiry."))))
    await people.all()
    assert not people.letters()

    people.forward(days=12 * 365)
    await people.all()

    heard = {letter.matter for letter in people.letters()}
    assert heard >= {Matter.CA_ENDS, Matter.SERVER_ENDS, Matter.SERVICE_ENDS, Matter.OPERATOR_ENDS}
    assert heard >= {Matter.CLAIM_ENDS, Matter.SIGNER_ENDS, Matter.CRL_ENDS}
    assert all(letter.severity is Severity.CRITICAL for letter in people.letters())


async def test_a_list_that_is_not_made_anew_is_told_before_it_ends(desk: Desk) -> None:
    desk.clock.now = utc_now()
    people = told(desk, rule(Matter.CRL_ENDS))
    issuer = next(one for one in desk.context.authority.issuers if one.purpose is Purpose.DEVICE)
    for number, hours in enumerate((0, 20)):
        at = desk.clock()
        made = PublishedCrl(
            name=ListName(issuer=issuer.issuer_id),
            der=b"",
            number=number,
            made_at=at,
            this_update=at,
            next_update=at + timedelta(hours=24),
        )
        desk.context.crls.put(made, change=0, rests_until=0)
        people.forward(hours=hours)
        await people.all()

    (letter,) = people.letters()
    assert "was not made anew" in letter.items[0].text
    people.forward(hours=5)
    await people.all()
    assert [each.severity for each in people.letters()] == [Severity.WARNING, Severity.CRITICAL]


async def test_a_quota_is_told_when_it_is_nearly_and_when_it_is_used_up(desk: Desk) -> None:
    people = told(desk, rule(Matter.QUOTA))
    sql = "INSERT INTO batches (domain, name, uses_allowed, uses, created_at) VALUES (?, ?, 100, 89, ?)"
    await amend(desk.context, sql, "prod", "spring", "2030-01-01T00:00:00Z")
    for uses in (89, 90, 99, 100):
        await amend(desk.context, "UPDATE batches SET uses = ?", uses)
        await people.all()

    items = [item for letter in people.letters() for item in letter.items]
    assert [(item.subject, item.text) for item in items] == [
        ("batch prod/spring", "90 of 100 are used"),
        ("batch prod/spring", "100 of 100 are used"),
    ]


async def test_a_burst_of_refusals_is_told_by_its_cause_and_when_it_is_over(desk: Desk) -> None:
    people = told(desk, rule(Matter.BROKER_REFUSALS), burst=3, burst_within=timedelta(minutes=10))
    for cause, count in {Cause.EXPIRED: 3, Cause.UNKNOWN_CA: 2}.items():
        refusal = contact(kind=BrokerEventKind.REFUSED, place="mosquitto", at=desk.clock(), cause=cause)
        for _ in range(count):
            await desk.context.store.write(contacts.keep, [refusal])
    await people.all()
    people.forward(minutes=11)
    await people.all()

    heard = [(item.subject, item.change) for letter in people.letters() for item in letter.items]
    assert heard == [("expired", Change.ARISES), ("expired", Change.CLEARS)]


async def test_a_device_that_let_its_certificate_end_is_told_until_it_is_back(desk: Desk) -> None:
    people = told(desk, rule(Matter.RENEWAL_MISSED))
    (device,) = await ending(desk, 1, days=3)
    for state in ("expired-grace", "active"):
        await amend(desk.context, "UPDATE certificates SET state = ? WHERE device_id = ?", state, "d000")
        await people.all()

    heard = [(item.subject, item.change) for letter in people.letters() for item in letter.items]
    assert heard == [(device.name, Change.ARISES), (device.name, Change.CLEARS)]


async def test_what_cannot_be_looked_at_is_not_called_over_and_keeps_nothing_else_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD, Matter.LEAF_ENDS))
    await ending(desk, 1, days=3)
    people.forward(days=30)
    await people.all()

    async def broken(_survey: Survey) -> list[Fact]:
        raise StoreError("it cannot be read")

    monkeypatch.setattr(looking, "FACTS", {**FACTS, Matter.BACKUP_OLD: broken})
    await amend(desk.context, "UPDATE devices SET retired_at = ?", "2030-06-30T00:00:00Z")
    people.forward(hours=1)
    await people.all()

    assert [letter.matter for letter in people.letters() if letter.is_over] == [Matter.LEAF_ENDS]
