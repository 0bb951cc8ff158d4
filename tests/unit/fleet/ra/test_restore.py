"""A backup and the trail kept elsewhere bring a home back to the very state in which it was lost."""

import errno
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from device_agent.wire.fields import time_text
from device_agent.wire.identity import Identity
from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Confirmed, Dead, Issued, Problem
from device_agent.wire.requests import Confirm, Done, Proof, ProofKind, Renew
from fleet.ca.auditkey import load_audit_signer
from fleet.ca.shares import split_key
from fleet.core.audit import entry_hash
from fleet.core.authority import AuthorityRecord, AuthorityState
from fleet.core.rollover import Insistence, RolloverEvent, RolloverKind
from fleet.errors import BadInputError, FleetError, NeedsAttentionError, RefusedError
from fleet.files import write_file
from fleet.home import Home
from fleet.model import AuditEntry, BrokerEventKind, Purpose, Role
from fleet.ra import devices
from fleet.ra.authority.authorities import activate_authority
from fleet.ra.gap import close_gap, gap_since
from fleet.ra.keeping.housekeeping import tick
from fleet.ra.keeping.restore_succession import Succession, signing_again
from fleet.ra.own.superseding import Superseding, supersede
from fleet.ra.people import audits
from fleet.ra.people.assignments import Assignment, assign
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.people.blocked_keys import KeyBlock, block_keys
from fleet.ra.people.claims import CodeOrder, create_codes, revoke_batch
from fleet.ra.people.operators import add_operator, remove_operator
from fleet.ra.people.trail import trail_of
from fleet.ra.requests import templates
from fleet.ra.requests.answer import answer
from fleet.ra.status.publishing import publish
from fleet.ra.succession.compromise import Admission, Loss, LossOrder, LossOutcome, give_up
from fleet.ra.trail_lines import KeptEntry, parse_line
from fleet.store import allowlist, audit
from fleet.store.audit import AuditQuery
from fleet.store.authorities import RevokedQuery, list_authorities, revoked_by
from fleet.store.certificates import CertificateQuery, list_certificates
from fleet.store.counters import value_of
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import open_store
from fleet.store.trust import highest_version
from tests.desk import Desk, Unit, at_desk
from tests.evidence import trail_in
from tests.homes import FleetHome
from tests.keeping import Keeper, differences, keeping, rows_of
from tests.rolling import prepare, stand_by, step

TEST = "operator:test"


@pytest.fixture
async def keeper(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(fleet_home, tmp_path) as opened:
        yield opened


async def enrolled(desk: Desk, device_id: str) -> tuple[Unit, Issued]:
    """A device registered and enrolled by what operators do, and confirmed."""
    identity = Identity(domain="prod", device_id=device_id)
    order = CodeOrder(identities=(identity,), actor=TEST, lifetime=timedelta(days=1))
    (code,) = await create_codes(desk.context, order)
    unit = Unit(device_id=device_id)
    proof = Proof(kind=ProofKind.CODE, code=code.code)
    issued = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert isinstance(issued, Issued), issued
    await confirm(desk, issued, device_id)
    return unit, issued


async def confirm(desk: Desk, issued: Issued, device_id: str) -> None:
    reply = await answer(desk.context, desk.speaking(issued, device_id=device_id), Confirm(id="c"))
    assert isinstance(reply, Confirmed), reply


async def renewed(desk: Desk, issued: Issued, device_id: str, *, unit: Unit | None = None) -> Reply:
    fresh = unit or Unit(device_id=device_id)
    request = Renew(id=str(uuid4()), csr=fresh.csr, attempt=1)
    return await answer(desk.context, desk.speaking(issued, device_id=device_id), request)


async def live(desk: Desk) -> dict[str, Issued]:
    """Devices of before the backup, each named after what will become of it."""
    names = ("revoked", "suspended", "retired", "renewed", "alarmed", "resumed")
    return {name: (await enrolled(desk, name))[1] for name in names}


async def go_on(desk: Desk, held: dict[str, Issued]) -> None:
    """What happens after the backup: all of it must be so again."""
    context = desk.context
    desk.clock.forward(timedelta(minutes=20))
    await desk.revoke("revoked")
    await devices.suspend(context, Identity(domain="prod", device_id="suspended"), actor=TEST, reason="lost")
    await devices.retire(context, Identity(domain="prod", device_id="retired"), actor=TEST)
    second = await renewed(desk, held["renewed"], "renewed")
    assert isinstance(second, Issued)
    await confirm(desk, second, "renewed")
    desk.broker.stamps = 7
    await answer(desk.context, desk.speaking(second, device_id="renewed"), Done(id="d"))
    for _ in range(2):
        await renewed(desk, held["alarmed"], "alarmed")
    await devices.suspend(context, Identity(domain="prod", device_id="resumed"), actor=TEST)
    desk.clock.forward(timedelta(minutes=20))
    await devices.resume(context, Identity(domain="prod", device_id="resumed"), actor=TEST)
    await enrolled(desk, "new")
    await add_operator(context, "ada", role=Role.OPERATOR, actor=TEST)
    await add_operator(context, "bob", role=Role.VIEWER, actor=TEST)
    await remove_operator(context, "bob", actor=TEST, reason="left")
    order = BatchOrder(domain="prod", name="line3", uses=5, lifetime=timedelta(days=30), actor=TEST)
    claim = await create_batch(context, order)
    await revoke_batch(context, "prod", claim.batch.name, actor=TEST)
    unconfirmed = await renewed(desk, held["resumed"], "resumed")
    assert isinstance(unconfirmed, Issued)
    await rule_on(desk)


async def rule_on(desk: Desk) -> None:
    """What operators say about keys, profiles and templates."""
    context = desk.context
    block = KeyBlock(key_hashes=("ab" * 32,), reason="found in a firmware image", actor=TEST)
    await block_keys(context, block)
    for profile in ("device", ""):
        await assign(context, Assignment(domain="prod", profile=profile, actor=TEST, device_id="new"))
    await assign(context, Assignment(domain="prod", profile="device", actor=TEST, device_id="renewed"))
    for name in ("kept", "dropped"):
        await templates.add(context, name, text='domain = "prod"\n', actor=TEST)
    await templates.remove(context, "dropped", actor=TEST)
    query = CertificateQuery(purpose=Purpose.OPERATOR, name_prefix="ada")
    (own,) = await context.store.read(list_certificates, query)
    await supersede(context, Superseding(serials=(own.serial,), actor=TEST, at=desk.clock()))


async def test_every_record_is_as_it_was_when_the_fleet_was_lost(keeper: Keeper) -> None:
    held = await live(keeper.desk)
    backup = keeper.back_up()
    await go_on(keeper.desk, held)
    trail = await keeper.keep_trail()

    restored = await keeper.restore(backup, trail)

    assert differences(restored.home / "fleet.db", keeper.home.database) == []
    assert restored.is_proven
    assert restored.strange == {}


async def test_a_device_that_expired_and_one_that_was_seen_are_followed_too(keeper: Keeper) -> None:
    _, issued = await enrolled(keeper.desk, "d1")
    backup = keeper.back_up()
    keeper.desk.clock.forward(timedelta(days=91))
    await tick(keeper.desk.context)
    await keeper.desk.happens(BrokerEventKind.CONNECTED, issued.serial, stamp=9)

    restored = await keeper.restore(backup, await keeper.keep_trail())

    rows = rows_of(restored.home / "fleet.db")
    assert rows["certificates"] == rows_of(keeper.home.database)["certificates"]


async def test_brokers_admit_after_it_what_they_admitted_before(keeper: Keeper) -> None:
    held = await live(keeper.desk)
    backup = keeper.back_up()
    await go_on(keeper.desk, held)
    before = await keeper.desk.context.store.read(allowlist.snapshot, None)

    restored = await keeper.restore(backup, await keeper.keep_trail())

    async with open_store(restored.home / "fleet.db") as store:
        after = await store.read(allowlist.snapshot, None)
    assert after.entries == before.entries
    assert after.sequence > before.sequence


async def test_numbers_that_were_given_out_never_come_again(keeper: Keeper) -> None:
    backup = keeper.back_up()
    issuer = keeper.desk.context.authority.issuer(Purpose.DEVICE, "prod").issuer_id
    for _ in range(3):
        await publish(keeper.desk.context)
    last = await keeper.desk.context.store.read(value_of, f"crl:{issuer}")
    trail = await keeper.keep_trail()

    for name, kept in (("with", trail), ("without", None)):
        restored = await keeper.restore(backup, kept, name=name)
        async with open_store(restored.home / "fleet.db") as store:
            assert await store.read(value_of, f"crl:{issuer}") > last
            assert await store.read(highest_version, "prod") >= 1_000_000  # of trust bundles


async def test_the_trail_goes_on_from_where_it_was_kept_under_the_same_key(keeper: Keeper) -> None:
    backup = keeper.back_up()
    await enrolled(keeper.desk, "d1")
    trail = await keeper.keep_trail()
    lines = trail.read_text().splitlines()

    restored = await keeper.restore(backup, trail)

    assert restored.trail is not None
    assert restored.trail.added == len(lines) - 1 - backup.header.audit_size
    assert restored.trail.head.head.size == len(lines) - 1


async def test_the_end_of_a_trail_is_enough_where_the_backup_holds_its_beginning(keeper: Keeper) -> None:
    backup = keeper.back_up()
    await enrolled(keeper.desk, "d1")
    tail = await keeper.keep_trail(after=backup.header.audit_size - 1)

    restored = await keeper.restore(backup, tail)

    assert restored.trail is not None
    assert restored.trail.added == restored.trail.head.head.size - backup.header.audit_size > 0


async def test_pieces_that_overlap_make_one_trail(keeper: Keeper) -> None:
    backup = keeper.back_up()
    await enrolled(keeper.desk, "d1")
    first = await keeper.keep_trail("first")
    await enrolled(keeper.desk, "d2")
    second = await keeper.keep_trail("second", after=backup.header.audit_size)
    first.write_text(first.read_text() + second.read_text())

    restored = await keeper.restore(backup, first)

    assert rows_of(restored.home / "fleet.db")["devices"] == rows_of(keeper.home.database)["devices"]


def changed(path: Path, number: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[number] = text
    path.write_text("".join(f"{line}\n" for line in lines if line))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("cut off the head", "no signed head covers"),
        ("leave an entry out", "has a gap"),
        ("change an entry", "was changed"),
        ("change an entry with its hash", "not what was signed"),
        ("another head", "not signed by the audit key"),
        ("a line that is none", "is no entry"),
        ("older than the backup", "no signed head covers"),
    ],
)
async def test_a_trail_that_proves_nothing_is_refused_and_no_home_is_left(
    keeper: Keeper, spoil: str, why: str
) -> None:
    early = await keeper.keep_trail("early")
    backup = keeper.back_up()
    await enrolled(keeper.desk, "d1")
    trail = early if spoil == "older than the backup" else await keeper.keep_trail()
    spoiled(trail, spoil)
    if spoil == "older than the backup":
        await enrolled(keeper.desk, "d2")
        backup = keeper.back_up("two.backup")

    with pytest.raises((RefusedError, BadInputError), match=why):
        await keeper.restore(backup, trail)

    assert not (keeper.elsewhere / "restored").exists()


def spoiled(trail: Path, how: str) -> None:
    lines = trail.read_text().splitlines()
    entry = json.loads(lines[-2])
    match how:
        case "cut off the head":
            changed(trail, len(lines) - 1, "")
        case "leave an entry out":
            changed(trail, len(lines) - 3, "")
        case "change an entry":
            changed(trail, len(lines) - 2, json.dumps({**entry, "actor": "operator:eve"}))
        case "change an entry with its hash":
            forged = {**entry, "actor": "operator:eve"}
            forged.pop("leaf_hash")
            kept = parse_line(lines[-2].encode(), 1)
            assert isinstance(kept, KeptEntry)
            leaf = entry_hash(kept.number, replace(kept.entry, actor="operator:eve"))
            changed(trail, len(lines) - 2, json.dumps({**forged, "leaf_hash": leaf.hex()}))
        case "another head":
            head = json.loads(lines[-1])
            changed(trail, len(lines) - 1, json.dumps({**head, "at": "2030-01-01T00:00:00Z"}))
        case "a line that is none":
            changed(trail, 3, "[]")


async def test_the_trail_of_another_fleet_does_not_carry_on_this_one(keeper: Keeper) -> None:
    backup = keeper.back_up()
    trail = await keeper.keep_trail()
    first = json.loads(trail.read_text().splitlines()[0])
    kept = parse_line(json.dumps(first).encode(), 1)
    assert isinstance(kept, KeptEntry)
    other = replace(kept.entry, actor="somebody")
    leaf = entry_hash(0, other).hex()
    changed(trail, 0, json.dumps({**first, "actor": "somebody", "leaf_hash": leaf}))

    with pytest.raises(RefusedError, match="does not carry on"):
        await keeper.restore(backup, trail)


# --- what a restore cannot bring back -------------------------------------------------------------


@asynccontextmanager
async def reopened(keeper: Keeper, home: Path, folder: Path) -> AsyncIterator[Desk]:
    """Open a desk on a restored home."""
    folder.mkdir()
    authority = keeper.desk.context.authority
    made = FleetHome(home=Home(home), authority=authority, made_at=keeper.desk.clock())
    async with at_desk(made, folder) as desk:
        desk.clock.now = keeper.desk.clock()
        yield desk


async def test_a_device_that_never_got_its_certificate_starts_over_with_a_new_key(
    keeper: Keeper, tmp_path: Path
) -> None:
    _, first = await enrolled(keeper.desk, "d1")
    backup, asking = keeper.back_up(), Unit(device_id="d1")
    assert isinstance(await renewed(keeper.desk, first, "d1", unit=asking), Issued)  # and the answer is lost
    restored = await keeper.restore(backup, await keeper.keep_trail())

    async with reopened(keeper, restored.home, tmp_path / "again") as desk:
        told = await renewed(desk, first, "d1", unit=asking)
        anew = Renew(id=str(uuid4()), csr=Unit(device_id="d1").csr, attempt=2)
        second = await answer(desk.context, desk.speaking(first, device_id="d1"), anew)

    assert isinstance(told, Dead), told
    assert isinstance(second, Issued), second


async def test_a_device_that_got_it_goes_on_as_if_nothing_had_happened(
    keeper: Keeper, tmp_path: Path
) -> None:
    _, first = await enrolled(keeper.desk, "d1")
    backup = keeper.back_up()
    second = await renewed(keeper.desk, first, "d1")
    assert isinstance(second, Issued)
    restored = await keeper.restore(backup, await keeper.keep_trail())

    async with reopened(keeper, restored.home, tmp_path / "again") as desk:
        assert second.serial in desk.broker.listed
        await confirm(desk, second, "d1")
        assert first.serial not in desk.broker.listed


async def test_a_code_that_was_used_since_admits_no_other_key(keeper: Keeper, tmp_path: Path) -> None:
    identity = Identity(domain="prod", device_id="d1")
    order = CodeOrder(identities=(identity,), actor=TEST, lifetime=timedelta(days=1))
    (code,) = await create_codes(keeper.desk.context, order)
    backup, proof = keeper.back_up(), Proof(kind=ProofKind.CODE, code=code.code)
    unit, thief = Unit(device_id="d1"), Unit(device_id="d1")
    assert isinstance(await answer(keeper.desk.context, unit.at_bootstrap(), unit.enroll(proof)), Issued)
    restored = await keeper.restore(backup, await keeper.keep_trail())

    async with reopened(keeper, restored.home, tmp_path / "again") as desk:
        reply = await answer(desk.context, thief.at_bootstrap(), thief.enroll(proof))

    assert isinstance(reply, Problem), reply


async def test_without_a_trail_nothing_is_issued_until_an_operator_says_so(
    keeper: Keeper, tmp_path: Path
) -> None:
    _, first = await enrolled(keeper.desk, "d1")
    identity = Identity(domain="prod", device_id="d2")
    order = CodeOrder(identities=(identity,), actor=TEST, lifetime=timedelta(days=1))
    (code,) = await create_codes(keeper.desk.context, order)
    restored = await keeper.restore(keeper.back_up(), None)
    assert (restored.is_proven, restored.codes_lost) == (False, 1)

    async with reopened(keeper, restored.home, tmp_path / "again") as desk:
        frozen = await renewed(desk, first, "d1")
        assert isinstance(frozen, Problem)
        assert frozen.code is ProblemCode.FROZEN
        unit = Unit(device_id="d2")
        unused = unit.enroll(Proof(kind=ProofKind.CODE, code=code.code))
        assert isinstance(await answer(desk.context, unit.at_bootstrap(), unused), Problem)
        since = await close_gap(desk.context, actor=TEST, reason="looked")
        assert isinstance(await renewed(desk, first, "d1"), Issued)
        with pytest.raises(RefusedError, match="no gap"):
            await close_gap(desk.context, actor=TEST, reason="")

    assert since == time_text(restored.manifest.made_at)


async def test_a_freeze_is_followed_like_any_other_act(keeper: Keeper, tmp_path: Path) -> None:
    identity = Identity(domain="prod", device_id="d2")
    order = CodeOrder(identities=(identity,), actor=TEST, lifetime=timedelta(days=1))
    await create_codes(keeper.desk.context, order)
    backup = keeper.back_up()
    bare = await keeper.restore(backup, None, name="bare")
    async with reopened(keeper, bare.home, tmp_path / "bare") as desk:
        context = desk.context
        lines = [line async for line in audits.export(trail_of(context))]
    trail = keeper.elsewhere / "bare.jsonl"
    trail.write_text("".join(f"{line}\n" for line in lines))

    again = await keeper.restore(backup, trail, name="again")

    assert rows_of(again.home / "fleet.db")["codes"] == rows_of(bare.home / "fleet.db")["codes"]
    async with open_store(again.home / "fleet.db") as store:
        assert await store.read(gap_since, None) == time_text(backup.manifest.made_at)


async def test_an_act_that_is_not_known_is_reported_and_not_guessed_at(keeper: Keeper) -> None:
    backup = keeper.back_up()
    entry = AuditEntry(at=keeper.desk.clock(), action="moon.landed", actor=TEST)
    await keeper.desk.context.store.write(audit.append, entry)

    restored = await keeper.restore(backup, await keeper.keep_trail())

    assert restored.strange == {"moon.landed": 1}
    assert not restored.is_proven


# --- whole, or not at all -------------------------------------------------------------------------


async def test_the_shares_of_another_backup_restore_nothing(keeper: Keeper) -> None:
    backup = keeper.back_up()
    other = replace(backup, key=split_key(bytes(32), backup.header.quorum))
    with pytest.raises(BadInputError, match="shares"):
        await keeper.restore(other, None)
    assert not (keeper.elsewhere / "restored").exists()


async def test_a_damaged_backup_restores_nothing(keeper: Keeper) -> None:
    backup = keeper.back_up()
    content = bytearray(backup.path.read_bytes())
    content[len(content) // 2] ^= 1
    backup.path.write_bytes(content)
    with pytest.raises(BadInputError):
        await keeper.restore(backup, None)
    assert [path.name for path in keeper.elsewhere.iterdir()] == ["one.backup"]


async def test_a_home_that_is_there_is_never_overwritten(keeper: Keeper) -> None:
    backup = keeper.back_up()
    await keeper.restore(backup, None)
    before = (keeper.elsewhere / "restored/fleet.toml").stat().st_ino
    with pytest.raises(RefusedError, match="is a fleet home already"):
        await keeper.restore(backup, None)
    assert (keeper.elsewhere / "restored/fleet.toml").stat().st_ino == before


async def test_replay_that_undid_a_revocation_would_be_found(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof reads the trail's own words: a replay that forgets something does not pass it."""
    await enrolled(keeper.desk, "d1")
    backup = keeper.back_up()
    await keeper.desk.revoke("d1")
    trail = await keeper.keep_trail()

    async def forgetful(_tx: object, _entry: object, _became: str) -> None:
        return None

    monkeypatch.setattr("fleet.ra.keeping.replay._follow", forgetful)
    with pytest.raises(NeedsAttentionError, match="is not revoked"):
        await keeper.restore(backup, trail)
    assert not (keeper.elsewhere / "restored").exists()


# --- authorities that came after the backup -------------------------------------------------------


async def roll_over(desk: Desk, name: str) -> None:
    """Lead the fleet to a CA that no backup has, and give up the one before it."""
    events = [RolloverEvent.SWITCH, RolloverEvent.RETIRE]
    rollover = await prepare(desk.context, name)
    for event in [RolloverEvent.PUBLISH, *events] if rollover.kind is RolloverKind.ROOT else events:
        await step(desk.context, rollover.realm, event, insistence=Insistence.GO_ON)


def names(records: Sequence[AuthorityRecord]) -> list[str]:
    return [one.folder for one in records]


@pytest.mark.parametrize(
    ("rolled", "again", "to_follow"),
    [
        ("prod", ["prod", "prod/device-1"], ["prod"]),
        ("prod/device-1", ["prod/device-1"], ["prod/device-1"]),
    ],
)
async def test_a_ca_signs_again_whose_successor_is_gone_with_its_key(
    keeper: Keeper, rolled: str, again: list[str], to_follow: list[str]
) -> None:
    backup = keeper.back_up()
    await roll_over(keeper.desk, rolled)

    restored = await keeper.restore(backup, await keeper.keep_trail())

    assert names(restored.succession.resumed) == again
    assert names(restored.succession.to_follow) == to_follow
    async with open_store(restored.home / "fleet.db") as store:
        records = await store.read(list_authorities, None)
        assert names(await store.read(signing_again, None)) == again
        (told, *_) = await store.read(audit.search_newest, AuditQuery(action="authority.activated", limit=1))
    assert {one.state for one in records} == {AuthorityState.ACTIVE}
    assert dict(told.entry.details)["because"] == "restored without the CA that followed it"


async def test_the_trail_of_a_home_whose_ca_signs_again_restores_it_once_more(keeper: Keeper) -> None:
    backup = keeper.back_up()
    await roll_over(keeper.desk, "prod/device-1")
    first = await keeper.restore(backup, await keeper.keep_trail())
    sign = load_audit_signer(keeper.home.audit_key)
    seal = AuditSeal(log="acme", sign=sign, clock=keeper.desk.clock)
    async with open_store(first.home / "fleet.db", seal=seal) as store:
        lines = [line async for line in audits.export(trail_in(store, "acme"))]
    trail = keeper.elsewhere / "later.jsonl"
    trail.write_text("".join(f"{line}\n" for line in lines))

    second = await keeper.restore(backup, trail, name="again")

    assert second.succession.resumed == ()
    async with open_store(second.home / "fleet.db") as store:
        assert {one.state for one in await store.read(list_authorities, None)} == {AuthorityState.ACTIVE}


@pytest.mark.parametrize("admission", Admission)
async def test_a_stolen_ca_never_signs_again(keeper: Keeper, admission: Admission) -> None:
    backup = keeper.back_up()
    await stand_by(keeper.desk.context)
    await lose(keeper.desk, "prod/device-1", admission)

    restored = await keeper.restore(backup, await keeper.keep_trail())

    assert restored.succession.resumed == ()
    assert names(restored.succession.vacant) == ["prod/device-1"]
    assert restored.lists_behind == ("prod",)


async def lose(desk: Desk, name: str, admission: Admission = Admission.GO_ON) -> LossOutcome:
    order = LossOrder(
        name=name,
        loss=Loss.COMPROMISED,
        actor=TEST,
        at=desk.clock().replace(microsecond=0),
        admission=admission,
    )
    return await give_up(desk.context, order)


async def test_a_ca_that_came_after_the_backup_and_was_stolen_is_revoked_on_record(keeper: Keeper) -> None:
    backup = keeper.back_up()
    stolen = await stand_by(keeper.desk.context)
    await activate_authority(keeper.desk.context, stolen, actor=TEST)
    outcome = await lose(keeper.desk, stolen)

    restored = await keeper.restore(backup, await keeper.keep_trail())

    assert restored.revoked == 1
    assert restored.lists_behind == ("prod",)
    assert restored.succession == Succession()
    root = keeper.desk.context.authority.root("prod").issuer_id
    query = RevokedQuery(issuer=root, now=keeper.desk.clock())
    async with open_store(restored.home / "fleet.db") as store:
        assert await store.read(revoked_by, query) == (outcome.revoked,)


async def test_a_home_that_would_not_start_is_not_made(keeper: Keeper) -> None:
    (keeper.home.authority("prod").ca.certificate).write_text("no certificate\n")
    backup = keeper.back_up()

    with pytest.raises(NeedsAttentionError, match="the restored home would not start"):
        await keeper.restore(backup, None)

    assert not (keeper.elsewhere / "restored").exists()


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
async def test_a_disk_that_fails_at_any_write_leaves_no_half_home(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Fault after fault, later and later, until one restore comes through."""
    backup, trail = keeper.back_up(), await keeper.keep_trail()
    real = getattr(os, call)
    for at in (1, 2, 5, 20, 60, 10_000):
        count = 0

        def failing(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == at:  # noqa: B023 - called within this turn
                raise OSError(errno.EIO, "input/output error")
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                await keeper.restore(backup, trail)
            except (FleetError, OSError):
                assert not (keeper.elsewhere / "restored").exists()
            else:
                break
    assert (keeper.elsewhere / "restored/fleet.toml").exists()
    left = sorted(path.name for path in keeper.elsewhere.iterdir())
    assert left == ["one.backup", "restored", "trail.jsonl"]


async def test_the_roots_above_stations_and_archives_of_the_trail_come_back(keeper: Keeper) -> None:
    home = keeper.home
    for file in (home.station_roots / "00ff.key", home.archive / "audit-0-9.jsonl.gz"):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        write_file(file, b"kept")
    restored = await keeper.restore(keeper.back_up(), None)
    for name in ("ca/.stations/00ff.key", "archive/audit-0-9.jsonl.gz"):
        assert (restored.home / name).read_bytes() == b"kept"
        (home.root / name).unlink()
