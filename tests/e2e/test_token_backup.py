"""A fleet with its keys in a token is backed up without them, and comes back beside that token."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.ca.shares import Quorum
from fleet.ca.token_keys import parse_token
from fleet.core.authority import KeyKind
from fleet.ra.authority.initialise import Plan, initialise
from fleet.ra.keeping.backup import BackupOrder, make_backup, new_backup_id
from fleet.ra.keeping.restore import RestoreOrder, restore
from tests.homes import FAST, authority_of, utc_now
from tests.tokens import SoftHsm, SoftToken

pytest.importorskip("pkcs11")
pytestmark = pytest.mark.needs("softhsm2-util")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as hsm:
        yield hsm.token()


def test_keys_in_a_token_are_named_and_used_again(token: SoftToken, tmp_path: Path) -> None:
    plan = Plan(fleet="acme", domains=("prod",), token=parse_token(token.uri))
    now = utc_now()
    made = asyncio.run(initialise(tmp_path / "home", plan, now=now, randomness=os.urandom, work_factor=FAST))
    order = BackupOrder(
        backup_id=new_backup_id(os.urandom),
        quorum=Quorum(needed=2, count=2),
        now=now,
        randomness=os.urandom,
    )
    backup = make_backup(made.home, order, out=tmp_path / "one.backup")
    assert {(key.kind, key.is_here) for key in backup.manifest.keys} == {(KeyKind.TOKEN, False)}
    assert all(key.uri.startswith("pkcs11:") and "pin-value" not in key.uri for key in backup.manifest.keys)

    wanted = RestoreOrder(
        archive=backup.path,
        shares=backup.key.shares,
        into=tmp_path / "back",
        trail=None,
        actor="operator:test",
    )
    asyncio.run(restore(wanted, clock=utc_now))

    back = type(made.home)(tmp_path / "back")
    assert list(back.ca.rglob("ca.key")) == []
    authority_of(back).unlock()
