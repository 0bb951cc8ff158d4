"""Devices behind Zephyr's shell: with a key of their own, and with one that the station makes."""

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.model import KeyOrigin
from fleet.station.drivers import ncs_shell, zephyr_cred, zephyr_shell
from fleet.station.drivers.console import Console
from fleet.station.drivers.credentials import credentials_of
from fleet.station.link.causes import Cause
from fleet.station.link.steps import Step
from tests.vendors.bench import Bench
from tests.vendors.line import MemoryLine
from tests.vendors.shell import NcsShell, Shell

TAG = 42
CHIP = Shell().chip.hex()


def bench(path: Path, unit: Shell) -> Bench:
    def make(console: Console) -> ncs_shell.NcsShell | zephyr_cred.ZephyrCred:
        shell = zephyr_shell.Shell(console, tag=TAG)
        return ncs_shell.NcsShell(shell) if isinstance(unit, NcsShell) else zephyr_cred.ZephyrCred(shell)

    return Bench(path=path / "ledger.db", unit=unit, make=make)


UNITS = pytest.mark.parametrize("kind", [NcsShell, Shell])


@UNITS
@pytest.mark.parametrize("logs", [False, True])
async def test_a_device_is_made_whatever_else_its_shell_prints(
    tmp_path: Path, kind: type[Shell], logs: bool
) -> None:
    unit = kind(logs=logs)
    line = bench(tmp_path, unit)
    end = await line.visit()
    assert (end.step, end.detail) == (Step.COMMITTED, "")
    made = (await line.ledger_unit(CHIP)).generations[-1].package
    assert made is not None
    credentials = credentials_of(made)
    assert unit.stored[TAG, "SERV"] == credentials.chain.encode() + b"\0"
    assert unit.stored[TAG, "CA"] == credentials.servers.encode() + b"\0"


@UNITS
async def test_a_device_that_was_made_before_gets_nothing_new(tmp_path: Path, kind: type[Shell]) -> None:
    unit = kind()
    line = bench(tmp_path, unit)
    await line.visit()
    stored, line.moves = dict(unit.stored), []
    assert (await line.visit()).step is Step.COMMITTED
    assert (Step.ISSUE in line.moves, unit.stored) == (False, stored)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("kind", "stride"), [(NcsShell, 4), (Shell, 8)])
async def test_a_cut_anywhere_ends_with_one_live_certificate(
    tmp_path: Path, kind: type[Shell], stride: int, before: bool
) -> None:
    """Each exchange up to the first piece and from the last on, and each `stride`-th of those between."""
    whole = bench(tmp_path, kind())
    await whole.visit()
    last = whole.exchanges
    for at in sorted({*range(1, 9), *range(9, last, stride), *range(last - 5, last + 1)}):
        folder = tmp_path / f"cut-{at}"
        folder.mkdir()
        line = bench(folder, kind())
        await line.cut(at, before=before)
        assert (await line.visit()).step is Step.COMMITTED
        await line.assert_one_is_live(CHIP)


async def test_the_key_in_the_device_is_kept_over_a_cut(tmp_path: Path) -> None:
    unit = NcsShell()
    line = bench(tmp_path, unit)
    await line.cut(20, before=False)
    await line.visit()
    (generation,) = (await line.ledger_unit(CHIP)).generations
    assert unit.generated == 1
    assert [asked.key for asked in line.asked] == [KeyOrigin.DEVICE] * len(line.asked)
    assert all(asked.csr == generation.csr for asked in line.asked)


async def test_a_key_of_the_host_is_told_as_such_and_told_to_nobody_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    unit = Shell()
    line = bench(tmp_path, unit)
    await line.visit()
    assert [asked.key for asked in line.asked] == [KeyOrigin.HOST]
    secret = unit.stored[TAG, "PK"].rstrip(b"\0")
    assert secret.startswith(b"-----BEGIN PRIVATE KEY-----")
    body = secret.splitlines()[1]
    assert body.decode() not in caplog.text
    assert all(body not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_a_key_of_the_host_does_not_show_itself(tmp_path: Path) -> None:
    unit = Shell()
    console = Console(MemoryLine(unit), quiet_seconds=0)
    device = zephyr_cred.ZephyrCred(zephyr_shell.Shell(console, tag=TAG))
    await device.request("d1", ())
    assert "PRIVATE" not in repr(vars(device))


async def test_a_device_that_signs_with_another_key_is_put_into_quarantine(tmp_path: Path) -> None:
    unit = NcsShell()
    line = bench(tmp_path, unit)
    await line.visit()
    unit.signs = ec.generate_private_key(ec.SECP256R1())
    end = await line.visit()
    assert (end.step, end.cause) == (Step.QUARANTINED, Cause.WRONG_PROOF)


@UNITS
async def test_an_unknown_certificate_is_never_written_over(tmp_path: Path, kind: type[Shell]) -> None:
    unit = kind(stored={(TAG, "SERV"): b"somebody else's\0"})
    assert (await bench(tmp_path, unit).visit()).step is Step.QUARANTINED
    assert unit.stored == {(TAG, "SERV"): b"somebody else's\0"}


@UNITS
async def test_leftovers_that_are_wrong_are_replaced(tmp_path: Path, kind: type[Shell]) -> None:
    unit = kind(stored={(TAG, "CA"): b"an old anchor\0"}, buffer="left over")
    assert (await bench(tmp_path, unit).visit()).step is Step.COMMITTED


@UNITS
async def test_a_shell_with_too_little_room_is_told(tmp_path: Path, kind: type[Shell]) -> None:
    end = await bench(tmp_path, kind(capacity=100)).visit()
    assert (end.step, end.cause) == (Step.FAILED, Cause.OTHER_FIRMWARE)
    assert end.detail == "the shell refuses cred buf"


@UNITS
async def test_a_shell_without_hwinfo_says_what_to_build(tmp_path: Path, kind: type[Shell]) -> None:
    end = await bench(tmp_path, kind(has_hwinfo=False)).visit()
    assert end.step is Step.FAILED
    assert "CONFIG_HWINFO_SHELL" in end.detail


async def test_a_spoilt_piece_is_found_before_anything_is_committed(tmp_path: Path) -> None:
    unit = NcsShell()
    wire = MemoryLine(unit)
    feed = unit.feed

    def spoilt(octets: bytes) -> bytes:
        return feed(octets.replace(b"cred buf LS0tLS1CRUdJTiB", b"cred buf LS0tLS1CRUdJTiC"))

    unit.feed = spoilt  # type: ignore[method-assign]  # the line turns a bit over
    end = await bench(tmp_path, unit).visit(wire)
    assert (end.step, end.cause) == (Step.FAILED, Cause.BAD_CABLE)


async def test_a_device_that_answers_with_anothers_request_gets_no_certificate(tmp_path: Path) -> None:
    line = bench(tmp_path, NcsShell(signs=ec.generate_private_key(ec.SECP256R1())))
    end = await line.visit()
    assert (end.step, end.detail) == (
        Step.QUARANTINED,
        "its request is for another key than the one it shows",
    )
    assert line.enroller.made == {}


async def test_a_request_that_was_spoilt_gets_no_certificate(tmp_path: Path) -> None:
    unit = NcsShell()
    wire = MemoryLine(unit)
    wire.spoil = lambda octets: octets.replace(b"CSR: MI", b"CSR: MJ")
    end = await bench(tmp_path, unit).visit(wire)
    assert end.step is Step.FAILED
    assert (await bench(tmp_path, unit).visit()).step is Step.COMMITTED


@pytest.mark.parametrize(
    "said", [b"uart:~$ ", b"ID: 0x\r\n", b"ID: 0x" + b"ab" * 60 + b"\r\n", b"\xff" * 300]
)
async def test_half_a_protocol_makes_nothing(tmp_path: Path, said: bytes) -> None:
    unit = Shell()
    wire = MemoryLine(unit)
    wire.spoil = lambda _octets: said
    assert (await bench(tmp_path, unit).visit(wire)).step in {Step.SILENT, Step.FAILED}
    assert unit.stored == {}
