"""Off line, a station signs what its lease allows; brokers admit it once the journal was checked."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from device_agent.wire.identity import Identity
from fleet.ca.signers import KeySigner, make_key
from fleet.core.journal import Kind, parse_entry
from fleet.core.lease import Lease, SignedLease, parse_lease
from fleet.core.serial import leased_number
from fleet.core.station_rules import RuleTexts
from fleet.errors import NeedsAttentionError, RefusedError
from fleet.model import CertificateState
from fleet.ra.people.station_report import suspects
from fleet.ra.people.stations import close_station
from fleet.ra.requests.leases import close_lease, list_leases
from fleet.station.link import steps
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device
from fleet.store.station_journal import list_findings
from fleet.store.stations import used_of
from tests.desk import Desk, Unit
from tests.factory_floor import MemoryUnit
from tests.offline import Bench, bench, station_at


def leaf_of(encoded: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(encoded)


async def findings(desk: Desk) -> list[str]:
    return [one.detail for one in await desk.context.store.read(list_findings, "")]


async def test_what_is_made_off_line_is_admitted_after_the_sync_and_not_before(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        package = await at.made("hw-1")
        assert package.serial not in desk.broker.listed
        assert await desk.context.store.read(load_certificate, package.serial) is None

        await at.sync()

    entry = desk.broker.listed[package.serial]
    assert (entry.name, entry.fingerprint) == ("prod:spring-0001", package.fingerprint.hex())
    device = await desk.context.store.read(load_device, Identity(domain="prod", device_id="spring-0001"))
    assert device is not None
    assert [one.state for one in device.certificates] == [CertificateState.ACTIVE]
    assert await findings(desk) == []


async def test_leaves_name_the_device_below_the_station_and_carry_their_number(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        leaves = [leaf_of((await at.made(f"hw-{number}")).leaf) for number in (1, 2)]
    names = [leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for leaf in leaves]
    assert [name.get_values_for_type(x509.DNSName) for name in names] == [
        ["spring-0001.line3.prod.acme"],
        ["spring-0002.line3.prod.acme"],
    ]
    assert [leased_number(f"{leaf.serial_number:032x}") for leaf in leaves] == [1, 2]


def verify(leaf: x509.Certificate, ca: x509.Certificate, root: x509.Certificate, *, at: Desk) -> None:
    policy = PolicyBuilder().store(Store([root])).time(at.clock())
    policy.build_client_verifier().verify(leaf, [ca])


async def test_the_cas_of_a_station_are_limited_short_lived_and_can_make_no_ca(desk: Desk) -> None:
    station = await station_at(desk)
    lease = parse_lease((await station.lease(days=7)).octets)
    ca = leaf_of(lease.authority)
    limits = ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert (limits.critical, limits.value.permitted_subtrees) == (True, [x509.DNSName("line3.prod.acme")])
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert ca.not_valid_after_utc - desk.clock() == timedelta(days=7 + 90)


async def test_verifiers_believe_the_station_for_its_own_names_and_no_others(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    signed = await station.lease()
    lease = parse_lease(signed.octets)
    ca, root = leaf_of(lease.authority), leaf_of(lease.anchors[-1])
    async with bench(station, tmp_path, signed=signed) as at:
        leaf = leaf_of((await at.made("hw-1")).leaf)
    verify(leaf, ca, root, at=desk)
    for name in ("spring-0001.line4.prod.acme", "spring-0001.prod.acme", "spring-0001.line3.lab.acme"):
        with pytest.raises(VerificationError):
            verify(renamed(leaf, ca, station.authority_key, name), ca, root, at=desk)


def renamed(leaf: x509.Certificate, ca: x509.Certificate, signer: KeySigner, name: str) -> x509.Certificate:
    """Return a leaf under another name, as software that minds no rule would sign it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(ca.subject)
        .public_key(leaf.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            value = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(value, critical=extension.critical)
    return builder.sign(signer._key, hashes.SHA256())  # type: ignore[arg-type]  # a P-256 key


@pytest.mark.needs("openssl")
async def test_openssl_believes_the_station_for_its_own_names_and_no_others(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    signed = await station.lease()
    lease = parse_lease(signed.octets)
    ca, root = leaf_of(lease.authority), leaf_of(lease.anchors[-1])
    async with bench(station, tmp_path, signed=signed) as at:
        leaf = leaf_of((await at.made("hw-1")).leaf)
    other = renamed(leaf, ca, station.authority_key, "spring-0001.line4.prod.acme")
    for name, certificate in {"leaf": leaf, "other": other, "ca": ca, "root": root}.items():
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    at_noon = str(int(desk.clock().timestamp()))
    command = ("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", at_noon)

    async def verdict(name: str, trust: Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *(*command, "-CAfile", str(trust), "-untrusted", str(tmp_path / "ca"), str(tmp_path / name)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return (await process.communicate())[0].decode()

    assert "leaf: OK" in await verdict("leaf", tmp_path / "root")
    assert "permitted subtree violation" in await verdict("other", tmp_path / "root")
    assert "unable to get local issuer certificate" in await verdict(
        "leaf", desk.context.home.trust_root("prod")
    )


async def test_who_relies_on_the_domains_root_does_not_believe_a_station(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    signed = await station.lease()
    ca = leaf_of(parse_lease(signed.octets).authority)
    async with bench(station, tmp_path, signed=signed) as at:
        leaf = leaf_of((await at.made("hw-1")).leaf)
        await at.sync()
    # A file of adopted CAs may be empty.
    found = [path.read_bytes() for path in desk.context.home.trust.rglob("*.pem")]
    handed_out = [content for content in found if b"CERTIFICATE" in content]
    trusted = [one for content in handed_out for one in x509.load_pem_x509_certificates(content)]
    assert len(trusted) > 2
    for anchor in trusted:
        with pytest.raises(VerificationError):
            verify(leaf, ca, anchor, at=desk)


async def test_a_lease_is_counted_against_the_quota_when_it_is_granted(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    signed = await station.lease(count=8)
    assert await desk.context.store.read(used_of, "line3") == {"spring": 8}
    with pytest.raises(RefusedError, match="has room for 2 units"):
        await station.lease(count=3)
    async with bench(station, tmp_path, signed=signed) as at:
        await at.made("hw-1")
        await at.sync()
    assert await desk.context.store.read(used_of, "line3") == {"spring": 8}
    await close_lease(desk.context, parse_lease(signed.octets).lease, actor="operator:test")
    assert await desk.context.store.read(used_of, "line3") == {"spring": 1}
    (view,) = await list_leases(desk.context)
    assert (view.used, view.lease.closed_at is not None) == (1, True)


async def test_a_key_is_of_one_lease_and_a_second_one_costs_no_quota(desk: Desk) -> None:
    station = await station_at(desk)
    await station.lease(count=3)
    with pytest.raises(RefusedError, match="is somebody's"):
        await station.lease(count=3)
    assert await desk.context.store.read(used_of, "line3") == {"spring": 3}


async def test_the_key_of_the_station_itself_is_none_of_a_ca(desk: Desk) -> None:
    station = await station_at(desk)
    assert isinstance(station.identity.signer, KeySigner)
    with pytest.raises(RefusedError, match="is somebody's"):
        await replace(station, authority_key=station.identity.signer).lease()


async def test_a_lease_that_is_used_up_lets_units_wait(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease(count=1)) as at:
        await at.made("hw-1")
        held = await at.decided("hw-2")
    assert isinstance(held, steps.Hold)
    assert "has no number left" in held.reason


async def test_a_lease_that_has_expired_lets_units_wait(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease(days=1)) as at:
        desk.clock.forward(timedelta(days=1))
        held = await at.decided("hw-1")
    assert isinstance(held, steps.Hold)
    assert "has expired" in held.reason


@pytest.mark.parametrize("years", [-1, 1])
async def test_a_clock_that_is_wrong_by_a_year_signs_nothing(desk: Desk, tmp_path: Path, years: int) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        desk.clock.forward(timedelta(days=365 * years))
        held = await at.decided("hw-1")
    assert isinstance(held, steps.Hold)
    assert ("is behind what this station has seen" in held.reason) is (years < 0)


async def test_a_clock_that_is_set_back_does_not_make_a_lease_longer(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease(days=2)) as at:
        desk.clock.forward(timedelta(days=1, hours=23))
        await at.made("hw-1")
        desk.clock.forward(timedelta(days=-1))
        assert isinstance(await at.decided("hw-2"), steps.Hold)


async def test_what_is_dated_back_into_a_lease_that_was_over_is_not_admitted(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease(days=7)) as at:
        desk.clock.forward(timedelta(days=20))
        await at.ledger.note(Kind.ATTEMPT, {"hardware": "hw-9"})
        await at.sync()
        desk.clock.forward(-timedelta(days=14))
        # Its own software refuses it (above): what asks here minds no rule.
        monkeypatch.setattr(Lease, "refusal", lambda *_, **__: None)
        package = await at.made("hw-1")
        desk.clock.forward(timedelta(days=14))
        await at.sync()
    assert package.serial not in desk.broker.listed
    assert any("was over" in one for one in await findings(desk))


async def test_a_lease_is_of_one_batch_and_fills_no_other(desk: Desk, tmp_path: Path) -> None:
    rules = RuleTexts(batches=("spring", "winter"), quotas=("spring=10", "winter=1"))
    station = await station_at(desk, rules=rules)
    await desk.register("spring-0001", batch="winter")
    async with bench(station, tmp_path, signed=await station.lease(batch="spring")) as at:
        package = await at.made("hw-1")
        await at.sync()
    assert package.serial not in desk.broker.listed
    (found,) = await findings(desk)
    assert "is in batch winter, its lease is for spring" in found


async def test_a_wiped_unit_gets_a_new_certificate_off_line_and_the_first_one_ends(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    unit = MemoryUnit(hardware_id="hw-1")
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        first = await at.made("hw-1", unit=unit)
        unit.wipe()
        second = await at.made("hw-1", unit=unit)
        await at.sync()
    assert set(desk.broker.listed) & {first.serial, second.serial} == {second.serial}
    row = await desk.context.store.read(load_certificate, first.serial)
    assert row is not None
    assert row.state is CertificateState.REVOKED


async def test_the_same_unit_is_made_once_and_a_repeated_sync_admits_nothing_twice(
    desk: Desk, tmp_path: Path
) -> None:
    station, unit = await station_at(desk), MemoryUnit(hardware_id="hw-1")
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        assert await at.made("hw-1", unit=unit) == await at.made("hw-1", unit=unit)
        await at.sync()
        before = desk.broker.sequence
        await at.sync()
    assert desk.broker.sequence == before
    (view,) = await list_leases(desk.context)
    assert view.used == 1


async def forged(at: Bench, **changes: str) -> list[str]:
    """Hand in the journal with other details in what was made, as the station itself could sign it."""
    journal = at.ledger._journal
    tell = at.ledger._tell

    def telling(db: object, kind: object, details: dict[str, str]) -> None:
        tell(db, kind, {**details, **changes} if "certificate" in details else details)  # type: ignore[arg-type]  # as it came

    at.ledger._tell = telling  # type: ignore[assignment, method-assign]  # a station that lies
    assert journal is at.ledger._journal
    await at.made("hw-1")
    await at.sync()
    return await findings(at.station.desk)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"number": "6"}, "is overdrawn: it has numbers 1 to 5, not 6"),
        ({"number": "0"}, "is overdrawn"),
        ({"number": "x"}, "is overdrawn"),
        ({"number": "2"}, "its serial is not that of its number"),
        ({"lease": "4" * 32}, "its lease is none of this station's"),
        ({"device": "spring-0002"}, "it is not as a station may make it"),
        ({"certificate": "AAAA"}, "its certificate cannot be read"),
        ({"certificate": "not base64"}, "its certificate cannot be read"),
        ({"key": "moon"}, "where its key was made is not told"),
    ],
    ids=str,
)
async def test_a_station_that_lies_about_what_it_made_is_found_out(
    desk: Desk, tmp_path: Path, changes: dict[str, str], why: str
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        (found,) = await forged(at, **changes)
    assert why in found
    assert desk.broker.listed == {} or all("spring" not in one.name for one in desk.broker.listed.values())


async def test_a_number_that_was_used_twice_is_found(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        await at.made("hw-1")
        await at.ledger._writer.run(lambda db: db.execute("UPDATE leases SET next_number = 1"))
        await at.made("hw-2")
        await at.sync()
    assert [one for one in await findings(desk) if "number 1 of its lease was used" in one]


async def test_a_certificate_that_is_told_of_twice_is_admitted_once_and_found(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        package = await at.made("hw-1")
        told = parse_entry((await at.ledger.journal_after(0, most=9))[-1].octets)
        await at.ledger.note(Kind.MADE, told.details)
        await at.sync()
    assert package.serial in desk.broker.listed
    assert {one.kind for one in await suspects(desk.context)} == {"offline", "duplicate"}


async def test_an_id_that_is_another_devices_is_not_taken_over(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    unit, issued = await desk.enrolled("spring-0001")
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        package = await at.made("hw-1")
        await at.sync()
    assert isinstance(unit, Unit)
    assert package.serial not in desk.broker.listed
    assert issued.serial in desk.broker.listed
    (found,) = await findings(desk)
    assert "is in no batch of station line3" in found


async def test_an_id_beyond_the_stations_serial_numbers_is_refused_on_both_sides(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        await at.ledger.skip_numbers("spring-", to=200)
        package = await at.made("hw-1")
        await at.sync()
        assert package.serial not in desk.broker.listed
        assert ["is not among the serial numbers" in one for one in await findings(desk)] == [True]
        at.way.is_away = True
        refused = await at.decided("hw-2")
    assert isinstance(refused, steps.Refuse)
    assert "is not among the serial numbers" in refused.reason


async def test_a_lease_that_was_closed_admits_nothing_more(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    signed = await station.lease()
    async with bench(station, tmp_path, signed=signed) as at:
        package = await at.made("hw-1")
        await close_lease(desk.context, parse_lease(signed.octets).lease, actor="operator:test")
        await at.sync()
    assert package.serial not in desk.broker.listed
    assert ["was closed" in one for one in await findings(desk)] == [True]


async def test_a_station_that_was_revoked_hands_nothing_in(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        package = await at.made("hw-1")
        await close_station(desk.context, "line3", actor="operator:test")
        with pytest.raises(RefusedError):
            await at.sync()
    assert package.serial not in desk.broker.listed
    assert all(view.lease.closed_at for view in await list_leases(desk.context, "line3"))


async def test_a_ledger_that_was_restored_from_a_copy_is_told(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        await at.made("hw-1")
        await at.sync()
    async with bench(station, tmp_path / "..", signed=None) as older:
        with pytest.raises(NeedsAttentionError, match="older copy"):
            await older.sync()


def broken_leases(signed: SignedLease) -> dict[str, SignedLease]:
    octets = signed.octets
    return {
        "edited": replace(signed, octets=octets.replace(b'"count":5', b'"count":9')),
        "cut": replace(signed, octets=octets[:-1]),
        "signed by another": replace(
            signed, signature=KeySigner(make_key()).sign(b"fleet-lease-v1\0" + octets)
        ),
        "nothing": SignedLease(octets=b"{}", signature=b"x"),
        "without its sense": replace(signed, octets=json.dumps({"v": 1}).encode()),
    }


@pytest.mark.parametrize("how", ["edited", "cut", "signed by another", "nothing", "without its sense"])
async def test_a_lease_that_is_not_as_it_was_signed_is_refused(desk: Desk, how: str) -> None:
    station = await station_at(desk)
    with pytest.raises(RefusedError):
        station.workshop(broken_leases(await station.lease())[how])


async def test_a_lease_of_another_station_or_for_another_key_is_refused(desk: Desk) -> None:
    station, other = await station_at(desk), await station_at(desk, "line4")
    with pytest.raises(RefusedError, match="is for station line4, this is line3"):
        station.workshop(await other.lease())
    mine = await station.lease()
    with pytest.raises(RefusedError, match="is for another key"):
        replace(station, authority_key=KeySigner(make_key())).workshop(mine)


async def test_no_lease_is_granted_to_a_station_named_as_a_device_is(desk: Desk) -> None:
    station = await station_at(desk)
    await desk.register("line3")
    with pytest.raises(RefusedError, match="a device of prod is called line3"):
        await station.lease()


async def test_the_certificate_in_the_journal_is_the_one_that_the_unit_has(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    async with bench(station, tmp_path, signed=await station.lease()) as at:
        package = await at.made("hw-1")
        entries = await at.ledger.journal_after(0, most=10)
    made = json.loads(entries[-1].octets)
    assert base64.b64decode(made["details"]["certificate"]) == package.leaf
