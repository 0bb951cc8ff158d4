"""A station on a computer of its own renews by itself, for years, whatever is cut off on the way."""

import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleet.cli.remote import Remote
from fleet.cli.station_key import key_in_file
from fleet.cli.workplace import Workplace
from fleet.errors import NotFoundError, RefusedError, UnreachableError
from fleet.home import KeyPairFiles
from fleet.model import CertificateState, Purpose
from fleet.pair_files import in_force
from fleet.ra.own.station_renewal import certify_again
from fleet.ra.people.stations import add_station, close_station
from fleet.station.own import next_key
from fleet.station.own.identity import StationIdentity
from fleet.station.own.next_key import is_begun
from fleet.station.server import renewal as renewals
from fleet.station.server.renewal import RETRY, Renewal, load_in_force, require_in_date
from fleet.station.server.way import Way
from fleet.store.audit import AuditQuery, search_newest
from fleet.store.certificates import CertificateQuery, list_certificates
from tests.desk import station_order
from tests.e2e.test_line_run import Pc
from tests.e2e.test_own_bearers import state_of
from tests.factory_floor import issue_leaf
from tests.homes import FleetHome, utc_now
from tests.live import LiveFleet, live, make_live_home
from tests.pki import Pki, pem_of

YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("renewing") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@dataclass(kw_only=True)
class Far:
    """A station's computer; `now` is its clock, and `taken` who it was from one time to the next."""

    name: str
    files: KeyPairFiles
    remote: Remote
    now: datetime
    taken: list[StationIdentity] = field(default_factory=list)

    @asynccontextmanager
    async def renewal(self, server: str | None = None) -> AsyncIterator[Renewal]:
        """Give the renewal of a station that has just begun to work."""
        remote = self.remote
        if server is not None:
            remote = Remote(server=server, certificate=remote.certificate, key=remote.key, trust=remote.trust)
        place = Workplace.elsewhere(remote, None)
        async with Way.opened(place.server) as way:
            yield Renewal(
                way,
                load_in_force(place.files),
                files=place.files,
                server=place.server_again,
                clock=lambda: self.now,
            )


@pytest.fixture
async def far(fleet: LiveFleet, tmp_path: Path) -> Far:
    """Add a station with its key in a file, as `fleet station add --out` does."""
    name, folder = f"far-{uuid.uuid4().hex[:8]}", tmp_path / "pc"
    folder.mkdir()
    files = KeyPairFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
    with key_in_file(name, files) as key:
        new = await add_station(fleet.context, station_order(name, "spring", csr=key.csr))
    files.certificate.write_text(new.own.certificate_pem)
    shutil.copy(fleet.home.home.server_trust, folder / "server.pem")
    remote = Remote(
        server=f"https://localhost:{fleet.context.endpoints.https_port}",
        certificate=files.certificate,
        key=files.key,
        trust=folder / "server.pem",
    )
    return Far(name=name, files=files, remote=remote, now=utc_now())


async def in_force_of(fleet: LiveFleet, name: str) -> list[str]:
    query = CertificateQuery(
        purpose=Purpose.STATION, state=CertificateState.ACTIVE, name_prefix=name, limit=100
    )
    return [one.serial for one in await fleet.context.store.read(list_certificates, query)]


async def test_a_station_that_is_not_due_asks_nobody_and_one_that_is_renews_with_another_key(
    fleet: LiveFleet, far: Far
) -> None:
    keys = {far.files.key.read_bytes()}
    async with far.renewal() as renewal:
        assert not await renewal.look(far.taken.append)
        for _ in range(4):
            before, far.now = renewal.identity.serial, renewal.identity.ends - timedelta(days=1)
            assert await renewal.look(far.taken.append)
            assert await state_of(fleet, before) is CertificateState.SUPERSEDED
            assert in_force(far.files).key.stat().st_mode & 0o777 == 0o600
            keys.add(far.files.key.read_bytes())
    assert await in_force_of(fleet, far.name) == [far.taken[-1].serial]
    assert (len(keys), len(far.taken)) == (5, 4)
    assert not list(far.files.key.parent.glob("*.next*"))


STEPS = {
    "before the key is made": (renewals, "begin"),
    "before it is certified": (Renewal, "_certified"),
    "before it is put in force": (renewals, "put_in_force"),
    "before the server is told": (Renewal, "_change"),
    "before the renewal is ended": (renewals, "finish"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["at it", "after it"])
async def test_a_station_killed_at_any_step_ends_with_one_certificate_that_works(
    fleet: LiveFleet, far: Far, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    where, name = STEPS[step]
    far.now = utc_now() + YEAR * 2 / 3 + YEAR / 4
    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed(getattr(where, name), moment))
        async with far.renewal() as renewal:
            with pytest.raises(KilledError):
                await renewal.renew(far.taken.append)

    async with far.renewal() as renewal:
        await renewal.renew(far.taken.append)
    assert await in_force_of(fleet, far.name) == [load_in_force(far.files).serial]
    assert not is_begun(far.files)
    async with far.renewal() as renewal:
        far.now = utc_now()
        assert not await renewal.look(far.taken.append)


class KilledError(Exception):
    """No cleanup may run on it that a kill would not run."""


def killed(step: Callable[..., object], moment: str) -> Callable[..., object]:
    """Return a step at which, or after which, the station dies."""

    def dies(*arguments: object, **named: object) -> object:
        found = step(*arguments, **named) if moment == "after it" else None
        if hasattr(found, "__await__"):
            return _dies_after(found)
        raise KilledError

    async def _dies_after(found: object) -> object:
        await found  # type: ignore[misc]  # one of the asynchronous steps
        raise KilledError

    return dies


async def test_a_server_that_is_away_is_asked_again_after_a_while_and_not_at_every_look(
    fleet: LiveFleet, far: Far
) -> None:
    far.now = utc_now() + YEAR * 2 / 3 + YEAR / 4
    async with far.renewal(server="https://localhost:1") as renewal:
        with pytest.raises(UnreachableError):
            await renewal.look(far.taken.append)
        assert not await renewal.look(far.taken.append)
        far.now += RETRY
        with pytest.raises(UnreachableError):
            await renewal.look(far.taken.append)
    kept = next_key.begin(far.files, far.name, randomness=bytes(4)).signer.public_key
    async with far.renewal() as renewal:
        assert await renewal.look(far.taken.append)
    assert far.taken[-1].signer.public_key == kept


async def test_a_server_that_is_another_fleets_is_told_apart_from_one_that_is_away(
    fleet: LiveFleet, far: Far
) -> None:
    stranger = Pki().roots["fleet"]
    (far.files.key.parent / "server.pem").write_bytes(pem_of(stranger.certificate))
    async with far.renewal() as renewal:
        with pytest.raises(UnreachableError, match="does not prove to be the fleet's: unable to get"):
            await renewal.renew(far.taken.append)


async def test_a_certificate_that_the_server_does_not_take_is_named(fleet: LiveFleet, far: Far) -> None:
    key = load_pem_private_key(far.files.key.read_bytes(), password=None)
    stranger = Pki().roots["fleet"].issuing("strangers")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    leaf = issue_leaf(stranger, key.public_key(), far.name)
    far.files.certificate.write_bytes(pem_of(leaf) + pem_of(stranger.certificate))
    async with far.renewal() as renewal:
        with pytest.raises(UnreachableError, match="over a certificate that it does not take") as caught:
            await renewal.renew(far.taken.append)
    assert "fleet station renew --request" in str(caught.value.hint)


async def test_what_was_renewed_by_hand_is_found_by_the_line_that_runs(fleet: LiveFleet, far: Far) -> None:
    async with far.renewal() as runs, far.renewal() as by_hand:
        renewed = await by_hand.renew(lambda _: None)
        far.now = runs.identity.ends - timedelta(days=100)
        assert await runs.look(far.taken.append)
        assert far.taken[0].serial == renewed.serial
        await runs.renew(far.taken.append)
    assert await in_force_of(fleet, far.name) == [far.taken[-1].serial]


async def test_a_request_that_waits_for_its_answer_gets_it_though_the_certificate_changes(
    fleet: LiveFleet, far: Far
) -> None:
    async with far.renewal() as renewal:
        first = renewal.way._road
        first.asked += 1
        changing = renewal.way.take(Workplace.elsewhere(far.remote, None).server)
        coroutine = changing.__await__()
        while renewal.way._road is first:
            next(coroutine)
        assert not first.http.closed
        first.asked -= 1
        first.is_idle.set()
        changing.close()
        await first.stack.aclose()


async def test_a_closed_station_renews_nothing_and_the_trail_tells_of_it(fleet: LiveFleet, far: Far) -> None:
    await close_station(fleet.context, far.name, actor="operator:ada")
    async with far.renewal() as renewal:
        with pytest.raises(RefusedError):
            await renewal.renew(far.taken.append)
    entries = await fleet.context.store.read(search_newest, AuditQuery(action="request.refused", limit=1))
    assert ("request", "renew") in entries[0].entry.details
    csr = next_key.begin(far.files, far.name, randomness=bytes(4)).csr(far.name)
    with pytest.raises(NotFoundError, match="there is no station"):
        await certify_again(fleet.context, far.name, csr, actor="operator:ada")


async def test_one_that_has_ended_says_so_and_comes_back_by_an_operator(
    fleet: LiveFleet, far: Far, tmp_path: Path
) -> None:
    identity = load_in_force(far.files)
    with pytest.raises(RefusedError, match="ended") as caught:
        require_in_date(identity, now=identity.ends)
    assert caught.value.hint is not None
    assert "fleet station renew --request" in caught.value.hint

    pc = Pc(far.files.certificate.parent, far.remote.server)
    for suffix in (".crt", ".key"):
        shutil.copy(far.files.key.with_suffix(suffix), pc.folder / f"local{suffix}")
    assert await said(pc, "renew", far.name, "--certificate", "local.crt") == (3, True)
    assert await said(pc, "renew", far.name, "--request", "local.csr") == (0, False)
    csr = (pc.folder / "local.csr").read_text()
    made = await certify_again(fleet.context, far.name, csr, actor="operator:ada")
    assert await said(pc, "renew", far.name, "--certificate", "local.csr") == (6, True)
    (pc.folder / "answer.crt").write_text(made.certificate_pem)
    assert await said(pc, "renew", far.name, "--certificate", "answer.crt") == (0, False)
    assert await said(pc, "sync", far.name) == (0, False)
    assert await in_force_of(fleet, far.name) == [made.serial]
    assert not list(pc.folder.glob("*.next*"))


async def said(pc: Pc, *words: str) -> tuple[int, bool]:
    """Run a command at the station; return its exit code, and whether it says an error."""
    process = await pc.start(*words)
    _, talk = await process.communicate()
    return process.returncode or 0, b"error:" in talk
