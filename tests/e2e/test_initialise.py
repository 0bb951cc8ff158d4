"""`fleet init`: everything a fleet needs, from a few names; refused where it could harm."""

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from device_agent.wire.secret import Secret
from fleet import config
from fleet.ca.auditkey import load_audit_verifier
from fleet.ca.hierarchy import RESERVED_DOMAINS
from fleet.ca.signers import load_key
from fleet.errors import BadInputError, RefusedError
from fleet.home import Home, KeyPairFiles, open_home
from fleet.model import Allowlist, CertificateState, Purpose, Role
from fleet.ports import Transaction, Work
from fleet.ra.authority.initialise import Plan, initialise
from fleet.store import allowlist, certificates, claims, operators, revocations, stations
from fleet.store.certificates import CertificateQuery, CertificateRecord
from fleet.store.crl_entries import CauseQuery, ShardQuery, entries_in, newest_for_cause
from fleet.store.seal import read_head
from fleet.store.sqlite import open_store
from tests.homes import FAST, PLAN, FleetHome, make_home

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("fleet") / "home", now=NOW)


async def read(home: Home, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
    async with open_store(home.database) as store:
        return await store.read(work, argument)


def asked(home: Home, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
    return asyncio.run(read(home, work, argument))


def records(made: FleetHome) -> tuple[CertificateRecord, ...]:
    return asked(made.home, certificates.list_certificates, CertificateQuery(limit=1000))


def leaf_of(pair: KeyPairFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pair.certificate.read_bytes())[0]


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_the_home_is_one_and_its_configuration_is_read(made: FleetHome) -> None:
    assert open_home(made.home.root) == made.home
    settings = config.load(made.home.config)
    assert settings.fleet == "acme"
    assert [domain.name for domain in settings.domains] == ["prod", "lab"]
    assert settings.server.host == "fleet.example.org"


def test_every_certificate_that_was_made_has_its_row(made: FleetHome) -> None:
    rows = {row.serial: row for row in records(made)}
    files = [path for path in made.home.root.rglob("*") if path.suffix in {".crt", ".pem"}]
    found = [
        certificate
        for path in files
        if b"BEGIN CERTIFICATE" in path.read_bytes()
        for certificate in x509.load_pem_x509_certificates(path.read_bytes())
    ]
    assert {f"{one.serial_number:032x}" for one in found} == set(rows)
    assert len(rows) == 28
    for row in rows.values():
        assert row.signed is not None
        assert row.state is (CertificateState.REVOKED if row.name == "canary" else CertificateState.ACTIVE)


def test_every_secret_is_for_its_owner_alone(made: FleetHome) -> None:
    public = {".crt", ".crl", ".pem", ".toml"}
    for path in made.home.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.suffix not in public or path.name == "key.pem":
            assert mode == 0o600, path
        assert path.suffix != ".partial"


def test_each_key_belongs_to_its_certificate(made: FleetHome) -> None:
    home = made.home
    pairs = [home.server, home.service, home.canary, home.station("local"), home.station("local-lab")]
    pairs += [home.public_claim(domain) for domain in PLAN.domains]
    for pair in pairs:
        assert load_key(pair.key, passphrase=None).public_key() == leaf_of(pair).public_key()


def test_the_server_certificate_names_every_host_and_the_loopback(made: FleetHome) -> None:
    extensions = leaf_of(made.home.server).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fleet.example.org", "localhost"]
    addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"192.0.2.7", "127.0.0.1", "::1"}


def test_the_broker_files_hold_what_each_listener_trusts(made: FleetHome) -> None:
    home = made.home

    def names(path: Path) -> set[str]:
        return {common_name(one) for one in x509.load_pem_x509_certificates(path.read_bytes())}

    assert names(home.broker_operational_roots) == {"acme fleet root", "acme prod root", "acme lab root"}
    assert names(home.broker_operational_issuers) == {
        "acme service issuing CA 1", "acme prod device issuing CA 1", "acme lab device issuing CA 1",
    }  # fmt: skip
    assert names(home.broker_bootstrap_roots) == {"acme bootstrap root"}
    assert names(home.broker_bootstrap_issuers) == {"acme claim issuing CA 1"}
    assert names(home.server_trust) == {"acme fleet root"}
    assert names(home.trust_root("prod")) == {"acme prod root"}
    assert names(home.trust_chain("prod")) == {"acme prod device issuing CA 1"}


def test_the_first_allowlist_admits_the_server_and_the_public_claims_alone(made: FleetHome) -> None:
    found: Allowlist = asked(made.home, allowlist.snapshot, None)
    assert {(entry.purpose, entry.name) for entry in found.entries} == {
        (Purpose.SERVICE, "fleet-server"),
        (Purpose.CLAIM, "prod.public"),
        (Purpose.CLAIM, "lab.public"),
    }


def test_the_canary_is_revoked_for_cause_and_nothing_else_is(made: FleetHome) -> None:
    issuer = made.authority.issuer(Purpose.SERVICE)
    query = CauseQuery(issuer=issuer.issuer_id, now=NOW, limit=10)
    (entry,) = asked(made.home, newest_for_cause, query)
    assert leaf_of(made.home.canary).serial_number.to_bytes(16, "big") in entry
    for other in made.authority.issuers:
        if other.issuer_id != issuer.issuer_id:
            everything = ShardQuery(issuer=other.issuer_id, first="0000", last="ffff", ends_from=NOW)
            assert asked(made.home, entries_in, everything).count == 0


def test_the_lists_of_the_roots_are_kept_under_the_number_that_they_bear(made: FleetHome) -> None:
    for root in made.authority.roots:
        stored = asked(made.home, revocations.load_crl, root.issuer_id)
        assert stored is not None
        assert (stored.der, stored.number) == (root.crl, 1)


def test_the_operator_has_the_highest_role_and_the_stations_their_batches(made: FleetHome) -> None:
    found = asked(made.home, operators.list_operators, None)
    assert [(one.name, one.role) for one in found] == [("admin", Role.SECURITY)]
    for domain, station in (("prod", "local"), ("lab", "local-lab")):
        (record,) = asked(made.home, stations.list_stations, domain)
        assert (record.name, record.batches) == (station, ("local",))
        batches = asked(made.home, claims.list_batches, domain)
        assert {(one.name, one.uses_allowed) for one in batches} == {("public", 0), ("local", 0)}


def test_a_claim_names_its_batch_and_domain(made: FleetHome) -> None:
    leaf = leaf_of(made.home.public_claim("prod"))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert common_name(leaf) == "public"
    assert names.get_values_for_type(x509.DNSName) == ["public.prod.claim.acme"]


async def audited(tx: Transaction, _argument: None) -> list[tuple[str, str]]:
    rows = await tx.fetch_all("SELECT action, serial FROM audit_entries ORDER BY number")
    return [(str(action), str(serial)) for action, serial in rows]


def test_every_certificate_has_an_audit_entry_and_the_head_is_signed(made: FleetHome) -> None:
    entries = asked(made.home, audited, None)
    told = {serial for action, serial in entries if action in {"certificate.issued", "authority.made"}}
    assert told == {row.serial for row in records(made)}
    assert entries[0][0] == "fleet.initialised"
    signed = read_head(made.home.audit_head)
    assert signed is not None
    assert signed.head.size == len(entries)
    assert load_audit_verifier(made.home.audit_public_key)(signed.signature, signed.head.message())


def test_a_made_passphrase_opens_the_roots_and_stays_in_the_home(made: FleetHome) -> None:
    passphrase = Secret(made.home.root_passphrase.read_text().strip())
    for root in made.authority.roots:
        files = made.home.authority(root.realm)
        key = load_key(files.ca.key, passphrase=passphrase)
        assert key.public_key() == root.certificate.public_key()


def test_a_given_passphrase_opens_the_roots_and_is_written_nowhere(tmp_path: Path) -> None:
    passphrase = Secret("a phrase of my own")
    plan = Plan(fleet="acme", root_passphrase=passphrase)
    made = make_home(tmp_path / "home", plan=plan, now=NOW)
    load_key(made.home.authority("prod").ca.key, passphrase=passphrase)
    assert not made.home.root_passphrase.exists()
    with pytest.raises(BadInputError):
        load_key(made.home.issuing("prod", "device-1").ca.key, passphrase=passphrase)
    for path in made.home.root.rglob("*"):
        assert path.is_dir() or passphrase.reveal().encode() not in path.read_bytes(), path


def test_a_second_init_at_the_same_place_is_refused_and_changes_nothing(made: FleetHome) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.home.root.rglob("*")}
    with pytest.raises(RefusedError, match="is a fleet home already") as caught:
        make_home(made.home.root)
    assert caught.value.hint
    assert {path: path.stat().st_mtime_ns for path in made.home.root.rglob("*")} == before


def test_two_inits_at_once_make_one_home(tmp_path: Path) -> None:
    async def race() -> list[str]:
        outcomes: list[str] = []

        async def one() -> None:
            with suppress(RefusedError):
                await initialise(tmp_path / "home", PLAN, now=NOW, randomness=os.urandom, work_factor=FAST)
                outcomes.append("made")

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(one())
        return outcomes

    assert asyncio.run(race()) == ["made"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    "plan",
    [
        Plan(fleet=""),
        Plan(fleet="Acme"),
        Plan(fleet="acme.org"),
        Plan(fleet="a" * 33),
        Plan(fleet="acme", domains=()),
        Plan(fleet="acme", domains=("prod", "prod")),
        Plan(fleet="acme", domains=("../etc",)),
        Plan(fleet="acme", domains=("prod", "")),
        *(Plan(fleet="acme", domains=(name,)) for name in sorted(RESERVED_DOMAINS)),
        Plan(fleet="acme", hosts=()),
        Plan(fleet="acme", hosts=("fleet.example.org", "http://x")),
        Plan(fleet="acme", hosts=("*.example.org",)),
        Plan(fleet="acme", hosts=('x"\nport = 1',)),
        Plan(fleet="acme", hosts=("fleet.example.org\n",)),
        Plan(fleet="acme", status_url="https://pki.example.org"),
        Plan(fleet="acme", status_url='http://x"\nport = 1'),
        Plan(fleet="acme", operator="../admin"),
        Plan(fleet="acme", operator=""),
        Plan(fleet="acme", root_passphrase=Secret("short")),
        Plan(fleet="acme", root_passphrase=Secret("")),
    ],
)
def test_names_that_cannot_be_used_are_told_before_anything_is_made(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        make_home(tmp_path / "home", plan=plan)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["2001:db8::7", "a" * 63 + ".example.org"])
def test_addresses_and_names_of_all_lengths_may_be_hosts(host: str, tmp_path: Path) -> None:
    plan = Plan(fleet="a" * 32, domains=("b" * 32,), hosts=(host,))
    made = make_home(tmp_path / "home", plan=plan, now=NOW)
    assert config.load(made.home.config).server.host == host
    assert len(records(made)) == 22


def counting(start: int = 0) -> Callable[[int], bytes]:
    state = [start]

    def randomness(length: int) -> bytes:
        state[0] += 1
        return state[0].to_bytes(length, "big")

    return randomness


def test_serials_come_from_the_randomness_and_time_that_are_given(tmp_path: Path) -> None:
    one, other = (make_home(tmp_path / name, now=NOW, randomness=counting()) for name in ("one", "other"))
    assert [row.serial for row in records(one)] == [row.serial for row in records(other)]
    assert {row.created_at for row in records(one)} == {NOW}
