"""Our own certificates: intent, signature, result; a failure in between leaves evidence and nothing else."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from fleet.ca.signers import KeySigner, load_key, make_key
from fleet.core.profile import DEFAULT_PROFILES
from fleet.errors import FleetError, NotFoundError
from fleet.home import Home
from fleet.model import CertificateState, Purpose
from fleet.ports import Store, Transaction
from fleet.ra.issue_own import OwnRequest, Surroundings, issue_own, write_pair
from fleet.store import allowlist, certificates
from fleet.store.certificates import CertificateQuery, CertificateRecord
from fleet.store.sqlite import memory_store
from tests.homes import STATUS_URL, FleetHome, make_home, utc_now

NOW = utc_now()
OPERATOR = OwnRequest(purpose=Purpose.OPERATOR, name="alice", actor="operator:admin")


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("fleet") / "home")


@pytest.fixture
async def surroundings(fleet_home: FleetHome) -> AsyncIterator[Surroundings]:
    async with memory_store() as store:
        yield Surroundings(
            store=store, authority=fleet_home.authority, randomness=bytes, status_url=STATUS_URL
        )


async def rows(store: Store) -> tuple[CertificateRecord, ...]:
    return await store.read(certificates.list_certificates, CertificateQuery(limit=100))


async def actions(tx: Transaction, _argument: None) -> list[tuple[str, str]]:
    found = await tx.fetch_all("SELECT action, actor FROM audit_entries ORDER BY number")
    return [(str(action), str(actor)) for action, actor in found]


async def test_what_is_issued_is_on_record_with_its_intent_and_its_result(
    surroundings: Surroundings,
) -> None:
    own = await issue_own(surroundings, OPERATOR, now=NOW)
    (row,) = await rows(surroundings.store)
    assert row.signed is not None
    assert row.signed.der == own.issued.der
    assert (row.state, row.purpose, row.name) == (CertificateState.ACTIVE, Purpose.OPERATOR, "alice")
    assert row.life.key_hash == own.issued.key_hash
    assert await surroundings.store.read(actions, None) == [
        ("certificate.intended", "operator:admin"),
        ("certificate.issued", "operator:admin"),
    ]


async def test_the_key_belongs_to_the_certificate_and_the_chain_to_both(
    surroundings: Surroundings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = await issue_own(surroundings, OPERATOR, now=NOW)
    files = Home(tmp_path_factory.mktemp("own")).station("s")
    write_pair(files, own)
    leaf, issuer = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    leaf.verify_directly_issued_by(issuer)
    assert load_key(files.key, passphrase=None).public_key() == leaf.public_key()


async def test_a_lifetime_may_be_shorter_than_the_profiles(surroundings: Surroundings) -> None:
    day = timedelta(days=1)
    own = await issue_own(surroundings, replace(OPERATOR, lifetime=day), now=NOW)
    profile = DEFAULT_PROFILES[Purpose.OPERATOR]
    assert own.issued.not_after - own.issued.not_before == day + profile.backdate


async def test_a_claim_and_a_service_are_admitted_by_brokers_and_an_operator_is_not(
    surroundings: Surroundings,
) -> None:
    claim = OwnRequest(
        purpose=Purpose.CLAIM, name="prod.b1", domain="prod", batch="b1", actor="operator:admin"
    )
    service = OwnRequest(purpose=Purpose.SERVICE, name="fleet-server", actor="server")
    sequences = []
    for number, request in enumerate((claim, service, OPERATOR)):
        numbered = replace(surroundings, randomness=lambda length, n=number: n.to_bytes(length, "big"))
        sequences.append((await issue_own(numbered, request, now=NOW)).sequence)
    found = await surroundings.store.read(allowlist.snapshot, None)
    assert {entry.name for entry in found.entries} == {"prod.b1", "fleet-server"}
    assert sequences == [1, 2, None]


async def test_a_canary_is_revoked_at_birth_and_never_admitted(surroundings: Surroundings) -> None:
    request = OwnRequest(purpose=Purpose.SERVICE, name="canary", actor="server", revoked_at_birth=True)
    own = await issue_own(surroundings, request, now=NOW)
    (row,) = await rows(surroundings.store)
    assert row.state is CertificateState.REVOKED
    assert own.sequence is None
    assert (await surroundings.store.read(allowlist.snapshot, None)).entries == ()


async def test_a_signer_that_fails_leaves_an_intent_and_no_certificate(surroundings: Surroundings) -> None:
    issuer = surroundings.authority.issuer(Purpose.OPERATOR)
    broken = replace(issuer, signer=KeySigner(make_key()))
    others = tuple(one for one in surroundings.authority.issuers if one is not issuer)
    authority = replace(surroundings.authority, issuers=(*others, broken))
    with pytest.raises(FleetError, match="does not verify"):
        await issue_own(replace(surroundings, authority=authority), OPERATOR, now=NOW)
    (row,) = await rows(surroundings.store)
    assert (row.state, row.signed) == (CertificateState.VOID, None)
    assert await surroundings.store.read(actions, None) == [("certificate.intended", "operator:admin")]


async def test_a_purpose_without_an_issuing_ca_is_not_found_and_leaves_nothing(
    surroundings: Surroundings,
) -> None:
    with pytest.raises(NotFoundError):
        await issue_own(surroundings, replace(OPERATOR, purpose=Purpose.SIGNER), now=NOW)
    assert await rows(surroundings.store) == ()
