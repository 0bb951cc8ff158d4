"""An issuing CA added by a process that is killed at any write: afterwards it is not there, or whole."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.ca.root_at_hand import IssuingOrder, open_root, sign_issuing
from fleet.core.authority import AuthorityState
from fleet.errors import FleetError
from fleet.files import read_secret
from fleet.home import Home
from fleet.model import Purpose
from fleet.ra.authority.authorities import activate_authority
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.ra.context import Context
from fleet.service import Listeners, running
from tests.disk import Disk
from tests.homes import FleetHome, make_home
from tests.live import PLAN, configure

KILLED = 77
STEPS = 8
"""How many places, evenly spread over all writes, are tried."""
SLACK = 12
"""Some of the last writes are there in one run and not in the next: lists and heads are kept by time."""
ACTOR = "operator:test"


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_home(tmp_path_factory.mktemp("made") / "home", plan=PLAN)
    configure(made.home.config, driver="embedded")
    return made


@pytest.fixture
def home(made_home: FleetHome, tmp_path: Path) -> Home:
    return Home(Path(shutil.copytree(made_home.home.root, tmp_path / "home")))


async def add(context: Context) -> str:
    """Add an issuing CA, as `fleet ca add` does; return its name."""
    order = AuthorityOrder(realm="prod", purpose=Purpose.DEVICE, actor=ACTOR)
    requested = await request_authority(context, order)
    home, name = context.home, requested.record.folder
    root = open_root(home.authority("prod"), fleet="acme", passphrase=read_secret(home.root_passphrase))
    wanted = IssuingOrder(
        csr_pem=requested.csr_pem,
        common_name=requested.common_name,
        purpose=Purpose.DEVICE,
        status_url=context.endpoints.status_url,
    )
    signed = sign_issuing(root, wanted, now=datetime.now(UTC), randomness=os.urandom)
    await certify_authority(context, Certification(name=name, chain_pem=signed.pem, actor=ACTOR))
    await activate_authority(context, name, actor=ACTOR)
    return name


async def add_under(home: Home, fault: Callable[[int, str], None]) -> int:
    """Add a CA while `fault` is asked before each write; return how many there were."""
    async with running(home.root, listeners=Listeners.ADMIN_ONLY) as service:
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, fault=fault)
            await add(service.context)
            return disk.count


@pytest.fixture(scope="module")
def writes(made_home: FleetHome, tmp_path_factory: pytest.TempPathFactory) -> int:
    place = shutil.copytree(made_home.home.root, tmp_path_factory.mktemp("whole") / "home")
    count = asyncio.run(add_under(Home(Path(place)), lambda _number, _name: None))
    assert count > 2 * SLACK
    return count


async def require_sound(home: Home) -> None:
    """What was cut off is not there, waits, or is whole; the next one is added, and signs."""
    async with running(home.root, listeners=Listeners.ADMIN_ONLY) as service:
        context = service.context
        states = {record.folder: record.state for record in context.authority.records}
        cut_off = states.get("prod/device-2", AuthorityState.REQUESTED)
        assert cut_off in {AuthorityState.REQUESTED, AuthorityState.STANDBY, AuthorityState.ACTIVE}
        context.authority.unlock()
        name = await add(context)
        active = {issuer.issuer_id for issuer in context.authority.active(Purpose.DEVICE, "prod")}
        (record,) = [one for one in context.authority.records if one.folder == name]
        assert record.issuer in active
        left = [path.name for path in (home.ca / "prod").iterdir() if path.name.endswith(".partial")]
        assert left == []


@pytest.mark.parametrize("step", range(STEPS))
def test_a_process_killed_at_any_write_leaves_a_sound_home(home: Home, writes: int, step: int) -> None:
    at = 1 + step * (writes - SLACK) // (STEPS - 1)
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(add_under(home, lambda number, _name: os._exit(KILLED) if number == at else None))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    asyncio.run(require_sound(home))


@pytest.mark.parametrize("step", range(STEPS))
def test_a_disk_that_fails_at_any_write_is_told_and_leaves_a_sound_home(
    home: Home, writes: int, step: int
) -> None:
    at = 1 + step * (writes - SLACK) // (STEPS - 1)

    def fault(number: int, _name: str) -> None:
        if number == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FleetError) as caught:
        asyncio.run(add_under(home, fault))
    assert caught.value.hint
    asyncio.run(require_sound(home))
