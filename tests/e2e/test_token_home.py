"""A fleet whose roots and issuing CAs have their keys in a token: made, served, and joined by another CA."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.ca.loading import records_of_files
from fleet.ca.root_at_hand import IssuingOrder, open_root, sign_issuing
from fleet.ca.token_keys import parse_token
from fleet.core.authority import KeyKind
from fleet.core.rollover import RolloverEvent
from fleet.errors import ExitCode, FleetError, StoreError
from fleet.home import Home
from fleet.model import Purpose
from fleet.ra.authority.authorities import activate_authority, stop_authority
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.initialise import Plan, initialise
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.ra.health import examine
from fleet.store.authorities import list_authorities
from tests.homes import FAST, FleetHome, authority_of, utc_now
from tests.live import configure, live
from tests.rolling import prepare, step
from tests.tokens import SoftHsm, SoftToken

pytest.importorskip("pkcs11")
pytestmark = pytest.mark.needs("softhsm2-util")
ACTOR = "operator:test"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as hsm:
        yield hsm.token()


def plan_for(token: SoftToken) -> Plan:
    return Plan(fleet="acme", domains=("prod", "lab"), token=parse_token(token.uri))


@pytest.fixture(scope="module")
def home(token: SoftToken, tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("homes") / "home"
    made = asyncio.run(
        initialise(root, plan_for(token), now=utc_now(), randomness=os.urandom, work_factor=FAST)
    )
    configure(made.home.config, driver="embedded")
    return made.home


def labels(token: SoftToken) -> set[str]:
    import pkcs11  # noqa: PLC0415 - an extra

    from fleet.ca.token_module import module_at  # noqa: PLC0415
    from fleet.ca.token_pins import TokenPins  # noqa: PLC0415

    uri = parse_token(token.uri)
    found: set[str] = module_at(uri.module_path).within(
        uri,
        TokenPins(uri.pin_source, refused=None),
        lambda opened: {
            key[pkcs11.Attribute.LABEL]
            for key in opened.session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
        },
    )
    return found


def test_no_key_of_a_root_or_issuing_ca_is_in_a_file(home: Home) -> None:
    assert list(home.ca.rglob("ca.key")) == []
    assert not home.root_passphrase.exists()
    kinds = {record.key for record in records_of_files(home, at=utc_now())}
    assert kinds == {KeyKind.TOKEN}
    authority_of(home).unlock()


async def test_devices_enroll_below_it_and_another_ca_of_the_token_joins(
    home: Home, token: SoftToken, tmp_path: Path
) -> None:
    fleet_home = FleetHome(
        home=home, authority=await asyncio.to_thread(authority_of, home), made_at=utc_now()
    )
    async with live(fleet_home, tmp_path) as fleet:
        await fleet.enrolled("d1")
        context = fleet.context
        order = AuthorityOrder(
            realm="prod", purpose=Purpose.DEVICE, actor=ACTOR, token=parse_token(token.uri)
        )
        requested = await request_authority(context, order)
        root = open_root(home.authority("prod"), fleet="acme", passphrase=None)
        signed = sign_issuing(
            root,
            IssuingOrder(
                csr_pem=requested.csr_pem,
                common_name=requested.common_name,
                purpose=Purpose.DEVICE,
                status_url=context.endpoints.status_url,
            ),
            now=datetime.now(UTC),
            randomness=os.urandom,
        )
        what = Certification(name=requested.record.folder, chain_pem=signed.pem, actor=ACTOR)
        record = await certify_authority(context, what)
        assert record.key is KeyKind.TOKEN
        await activate_authority(context, record.folder, actor=ACTOR)
        await stop_authority(context, "prod/device-1", actor=ACTOR)
        device = await fleet.enrolled("d2")
        assert device.issued is not None
        token.pull()
        lost, proof = await fleet.proof_for("d3")
        reply = await lost.enroll(proof)
        assert type(reply).__name__ == "Problem"
        assert any("token" in finding.text for finding in await examine(context) if not finding.ok)
        token.put_back()
        lost.unit = type(lost.unit)(device_id="d3")
        await fleet.enrolled("d4")


async def test_keys_in_a_token_are_followed_by_keys_in_that_token(
    home: Home, token: SoftToken, tmp_path: Path
) -> None:
    fleet_home = FleetHome(
        home=home, authority=await asyncio.to_thread(authority_of, home), made_at=utc_now()
    )
    before = labels(token)
    async with live(fleet_home, tmp_path) as fleet:
        rollover = await prepare(fleet.context, "lab")
        for event in (RolloverEvent.PUBLISH, RolloverEvent.SWITCH):
            await step(fleet.context, "lab", event)
        device = await fleet.enrolled("d9", domain="lab")
        assert device.issued is not None
        records = await fleet.context.store.read(list_authorities, None)
    assert len(labels(token) - before) == len(rollover.brings) == 2
    assert list(home.ca.rglob("ca.key")) == []
    assert {one.key for one in records if one.folder in rollover.brings} == {KeyKind.TOKEN}


async def test_an_init_that_fails_leaves_no_key_in_the_token(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> int:
        raise StoreError("the disk is full")

    before = labels(token)
    monkeypatch.setattr("fleet.ra.authority.initialise._fill_store", full)
    with pytest.raises(FleetError, match="the disk is full"):
        await initialise(
            tmp_path / "home", plan_for(token), now=utc_now(), randomness=os.urandom, work_factor=FAST
        )
    assert labels(token) == before
    assert not (tmp_path / "home").exists()


def test_a_wrong_pin_is_told_at_the_start_and_never_tried_by_the_next_one(
    home: Home, token: SoftToken
) -> None:
    token.pin_file.write_text("999999\n")
    try:
        first, second = [
            subprocess.run(
                [Path(sys.executable).parent / "fleet", "--home", home.root, "ca", "list"],
                capture_output=True,
                text=True,
                check=False,
            )
            for _ in range(2)
        ]
    finally:
        token.pin_file.write_text("123456\n")
    assert (first.returncode, second.returncode) == (ExitCode.BAD_INPUT, ExitCode.BAD_INPUT)
    assert first.stderr.startswith("error: the token refuses the PIN")
    assert "not tried again" in second.stderr
    assert "999999" not in first.stderr + second.stderr
