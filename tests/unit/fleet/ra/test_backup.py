"""A backup holds what brings a fleet back, as of one moment, and nothing that a run makes anew."""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca.auditkey import load_audit_verifier
from fleet.ca.backup import Opener, Sealer, check
from fleet.ca.shares import combine_shares
from fleet.core.authority import KeyKind
from fleet.errors import BadInputError, FleetError, RefusedError
from fleet.files import PUBLIC_MODE, SECRET_MODE, make_folder, write_file
from fleet.home import Home
from fleet.model import AuditEntry
from fleet.ra.keeping import backup as backups
from fleet.ra.keeping.backup import Backup
from fleet.ra.keeping.backup_manifest import FileEntry, KeyEntry, LeftOut, Manifest, parse_manifest
from fleet.ra.keeping.restore_files import unpack
from fleet.scratch import scratch
from fleet.store import audit
from fleet.store.authorities import list_authorities, save_authority
from fleet.store.copying import take_inventory
from tests.desk import NOON
from tests.homes import FleetHome
from tests.keeping import Keeper, keeping

MANIFEST = Manifest(
    fleet="acme",
    backup_id="00112233445566aa",
    made_at=datetime(2026, 5, 1, tzinfo=UTC),
    program="1.0",
    audit_size=3,
    audit_root=bytes(32),
    rows={"devices": 2},
    files=(FileEntry(path="ca/prod/ca.key", size=9, digest="0" * 64, mode=SECRET_MODE),),
    keys=(KeyEntry(folder="prod", issuer="ab", kind=KeyKind.FILE, is_here=True),),
    left_out=(LeftOut(path="big", why="it is too large to be the fleet's"),),
)


@pytest.fixture
async def keeper(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(fleet_home, tmp_path) as opened:
        yield opened


def contents(made: Backup) -> dict[str, tuple[bytes, int]]:
    """Open a backup by its shares; return its files with their modes, in their order."""
    with made.path.open("rb") as file:
        opener = Opener(file, key=combine_shares(made.key.shares[:2]))
        with tarfile.open(fileobj=opener, mode="r|") as archive:
            found = {}
            for member in archive:
                source = archive.extractfile(member)
                assert source is not None
                found[member.name] = (source.read(), member.mode)
        opener.finish()
    return found


async def test_it_holds_keys_database_configuration_and_certificates(keeper: Keeper) -> None:
    root = keeper.home.station_root_key("00ff")
    make_folder(root.parent)
    write_file(root, b"sealed")
    found = contents(keeper.back_up())
    assert next(iter(found)) == "manifest.json"
    assert list(found)[-1] == "fleet.db"
    for path in ("fleet.toml", "ca/issuing-passphrase", "ca/prod/ca.key", "ca/prod/device-1/ca.key"):
        assert found[path][0] == (keeper.home.root / path).read_bytes()
    assert "ca/.stations/00ff.key" in found, "roots above stations' CAs are made once"
    for path in ("audit/key.pem", "server/tls.key", "operators/admin.p12", "trust/prod/root.pem"):
        assert path in found
    assert found["ca/prod/ca.key"][1] == SECRET_MODE
    assert found["trust/prod/root.pem"][1] == PUBLIC_MODE


async def test_what_a_run_makes_anew_is_not_in_it(keeper: Keeper) -> None:
    home = keeper.home
    for path in ("run/endpoints.json", "broker/mosquitto.log", "broker/operational.crl.pem", "fleet.db-wal"):
        (home.root / path).parent.mkdir(exist_ok=True)
        (home.root / path).write_text("x")
    (home.server.key.parent / ".tls.key.0011").write_text("a file that is being written")
    found = contents(keeper.back_up())
    assert [path for path in found if path.startswith("run/") or "/." in path] == []
    assert {path for path in found if path.startswith("broker/")} == {
        "broker/bootstrap-issuers.pem",
        "broker/bootstrap-roots.pem",
        "broker/canary.crt",
        "broker/canary.key",
        "broker/operational-issuers.pem",
        "broker/operational-roots.pem",
    }
    assert "audit/head.json" not in found


async def test_a_link_within_the_home_is_followed_and_one_out_of_it_is_named(keeper: Keeper) -> None:
    server = keeper.home.server
    hidden = server.key.parent / ".tls"
    hidden.mkdir()
    server.key.rename(hidden / "tls.key")
    server.key.symlink_to(".tls/tls.key")
    outside = keeper.elsewhere / "public.crt"
    outside.write_text("of a public CA")
    (keeper.home.root / "server/brought.crt").symlink_to(outside)
    made = keeper.back_up()
    assert contents(made)["server/tls.key"][0] == (hidden / "tls.key").read_bytes()
    assert made.manifest.left_out == (LeftOut(path="server/brought.crt", why="it leads out of the home"),)


async def test_a_key_in_a_token_is_named_and_not_copied(keeper: Keeper) -> None:
    store, home = keeper.desk.context.store, keeper.home
    record = next(one for one in await store.read(list_authorities, None) if one.folder == "prod/device-1")
    await store.write(save_authority_kind, replace(record, key=KeyKind.TOKEN))
    files = home.authority_files("prod/device-1")
    files.ca.key.unlink()
    files.token.write_text("pkcs11:token=acme;object=device-1\n")
    keys = {key.folder: key for key in keeper.back_up().manifest.keys}
    assert (keys["prod/device-1"].kind, keys["prod/device-1"].is_here) == (KeyKind.TOKEN, False)
    assert keys["prod/device-1"].uri == "pkcs11:token=acme;object=device-1"
    assert (keys["prod"].kind, keys["prod"].is_here) == (KeyKind.FILE, True)


async def save_authority_kind(tx: object, record: object) -> None:
    """No order of ours changes where a key is: a home with a token begins so."""
    await save_authority(tx, record)  # type: ignore[arg-type]  # what the store hands in
    await tx.execute(  # type: ignore[attr-defined]  # as above
        "UPDATE authorities SET key_kind = 'token' WHERE folder = 'prod/device-1'"
    )


async def test_a_copy_is_of_one_moment_although_the_server_goes_on(keeper: Keeper) -> None:
    store, done = keeper.desk.context.store, asyncio.Event()

    async def go_on() -> int:
        count = 0
        while not done.is_set():
            entry = AuditEntry(at=NOON, action="device.changed", actor="server")
            await store.write(audit.append, entry)
            count += 1
        return count

    async with asyncio.TaskGroup() as group:
        going = group.create_task(go_on())
        made = await asyncio.to_thread(keeper.back_up)
        done.set()
    assert going.result() > 0
    copy = keeper.elsewhere / "copy.db"
    copy.write_bytes(contents(made)["fleet.db"][0])
    inventory = take_inventory(copy)
    assert inventory.trail.size == inventory.rows["audit_entries"] == made.manifest.audit_size
    assert inventory.trail.root() == made.manifest.audit_root


async def test_no_part_of_its_key_is_left_anywhere(keeper: Keeper) -> None:
    made = keeper.back_up()
    secret = combine_shares(made.key.shares[:2])
    words = made.key.shares[0].reveal().encode()
    for path in [made.path, *(one for one in keeper.home.root.rglob("*") if one.is_file())]:
        content = path.read_bytes()
        assert secret not in content
        assert words not in content
    assert not (keeper.home.run / "backup").exists()


async def test_it_is_signed_by_the_audit_key_of_the_home(keeper: Keeper) -> None:
    made = keeper.back_up()
    with made.path.open("rb") as file:
        checked = check(file)
    assert load_audit_verifier(keeper.home.audit_public_key)(checked.signature, checked.message())
    assert checked.digest == made.digest
    assert made.path.stat().st_mode & 0o777 == SECRET_MODE


async def test_a_backup_is_never_overwritten(keeper: Keeper) -> None:
    made = keeper.back_up()
    before = made.path.read_bytes()
    with pytest.raises(RefusedError, match="exists already"):
        keeper.back_up()
    assert made.path.read_bytes() == before


async def test_a_backup_that_fails_leaves_no_file(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FleetError):
        keeper.back_up()
    assert list(keeper.elsewhere.iterdir()) == []
    assert not (keeper.home.run / "backup").exists()


async def test_two_backups_do_not_work_in_one_place(keeper: Keeper) -> None:
    with (
        scratch(keeper.home.run / "backup"),
        pytest.raises(RefusedError, match="another backup of this home"),
    ):
        keeper.back_up()
    keeper.back_up()


async def test_what_a_killed_backup_left_goes_with_the_next_one(keeper: Keeper) -> None:
    left = keeper.home.run / "backup"
    (left / "more").mkdir(parents=True)
    (left / "fleet.db").write_text("half a copy")
    keeper.back_up()
    assert not left.exists()


async def test_files_that_never_hold_still_are_not_backed_up_torn(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = backups._read, 0  # the point is what lies between two readings

    def changing(home: Home) -> object:
        nonlocal count
        count += 1
        (home.root / "server/tls.crt").write_text(str(count))
        return real(home)

    monkeypatch.setattr(backups, "_read", changing)
    with pytest.raises(FleetError, match="change all the time"):
        keeper.back_up()


# --- the manifest ---------------------------------------------------------------------------------


def test_a_manifest_is_read_back() -> None:
    assert parse_manifest(MANIFEST.encode()) == MANIFEST


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "ca/../../x", "./x", ".hidden/x", "ca/.x", "a//b", "a/", ""]
)
def test_a_manifest_names_no_path_outside_of_the_home(path: str) -> None:
    bad = replace(MANIFEST, files=(replace(MANIFEST.files[0], path=path),))
    with pytest.raises(BadInputError):
        parse_manifest(bad.encode())


def test_a_manifest_gives_no_file_a_mode_that_is_not_ours() -> None:
    bad = replace(MANIFEST, files=(replace(MANIFEST.files[0], mode=0o4755),))
    with pytest.raises(BadInputError):
        parse_manifest(bad.encode())


@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: f'{{"version":1,{text}}}'.encode()))
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_manifest(content)


@pytest.mark.parametrize("shape", ["no manifest", "another file", "one file more"])
async def test_an_archive_of_another_shape_writes_nothing_that_it_should_not(
    keeper: Keeper, tmp_path: Path, shape: str
) -> None:
    """Sealed with the right key and all: what it unpacks is what the manifest names, and no more."""
    made = keeper.back_up()
    key = combine_shares(made.key.shares[:2])
    found = contents(made)
    names = {"no manifest": list(found)[1:], "another file": ["manifest.json", "../evil"]}.get(
        shape, list(found)
    )
    forged = io.BytesIO()
    sealer = Sealer(forged, made.header, key=key)
    with tarfile.open(fileobj=sealer, mode="w|") as archive:
        for name in [*names, "../evil"]:
            data = found.get(name, (b"evil", 0))[0]
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    sealer.finish(lambda _message: b"")
    forged.seek(0)
    home = tmp_path / "unpacked" / "home"
    home.mkdir(parents=True)
    with pytest.raises(BadInputError):
        unpack(forged, made.key.shares, Home(home))
    assert [path.name for path in home.parent.iterdir()] == ["home"]
