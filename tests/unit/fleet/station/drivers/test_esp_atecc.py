"""ESP32s with a secure element: one key for ever, and the grammar of Espressif's firmware."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.model import KeyOrigin
from fleet.station.drivers.esp_atecc import ENDING, PROMPT, EspAtecc
from fleet.station.link.causes import Cause
from fleet.station.link.steps import Step
from tests.vendors.atecc import Atecc
from tests.vendors.bench import Bench
from tests.vendors.line import MemoryLine

SERIAL = Atecc().serial.hex()


def bench(path: Path, unit: Atecc) -> Bench:
    return Bench(
        path=path / "ledger.db",
        unit=unit,
        make=lambda console: EspAtecc(console, pause_seconds=0),
        ending=ENDING,
        prompt=PROMPT,
    )


@pytest.mark.parametrize("kind", ["TrustCustom", "TrustManager"])
async def test_a_chip_makes_its_key_and_holds_its_certificates(tmp_path: Path, kind: str) -> None:
    unit = Atecc(kind=kind)
    line = bench(tmp_path, unit)
    end = await line.visit()
    assert (end.step, end.detail) == (Step.COMMITTED, "")
    made = (await line.ledger_unit(SERIAL)).generations[-1].package
    assert made is not None
    assert unit.written["0"] == made.leaf
    assert ("1" in unit.written) is (kind == "TrustCustom")
    assert [asked.key for asked in line.asked] == [KeyOrigin.DEVICE]


async def test_a_chip_that_was_made_before_keeps_key_and_certificate(tmp_path: Path) -> None:
    unit = Atecc()
    line = bench(tmp_path, unit)
    await line.visit()
    line.moves = []
    unit.power_cycle()
    assert (await line.visit()).step is Step.COMMITTED
    assert Step.ISSUE not in line.moves
    assert unit.generated == 1


async def test_a_cut_at_each_exchange_costs_no_key_and_no_second_certificate(tmp_path: Path) -> None:
    whole = bench(tmp_path, Atecc())
    await whole.visit()
    for at in range(1, whole.exchanges + 1):
        for before in (True, False):
            folder = tmp_path / f"{at}-{before}"
            folder.mkdir()
            unit = Atecc()
            line = bench(folder, unit)
            await line.cut(at, before=before)
            assert (await line.visit()).step is Step.COMMITTED
            assert (unit.generated, len(line.enroller.made)) == (1, 1)
            await line.assert_one_is_live(SERIAL)


@pytest.mark.parametrize("kind", ["Trust&Go", "TrustFlex"])
async def test_a_chip_with_microchips_certificate_is_to_be_imported(tmp_path: Path, kind: str) -> None:
    unit = Atecc(kind=kind)
    end = await bench(tmp_path, unit).visit()
    assert (end.step, end.cause) == (Step.FAILED, Cause.WRONG_DEVICE)
    assert "fleet device import" in end.detail
    assert unit.generated == 0


async def test_a_chip_that_signs_with_another_key_is_put_into_quarantine(tmp_path: Path) -> None:
    unit = Atecc()
    line = bench(tmp_path, unit)
    await line.visit()
    unit.signs = ec.generate_private_key(ec.SECP256R1())
    end = await line.visit()
    assert (end.step, end.cause) == (Step.QUARANTINED, Cause.WRONG_PROOF)


async def test_a_spoilt_certificate_is_refused_by_its_checksum(tmp_path: Path) -> None:
    unit = Atecc()
    feed = unit.feed

    def spoilt(octets: bytes) -> bytes:
        return feed(octets.replace(b"-----BEGIN CERTIFICATE-----\nMII", b"-----BEGIN CERTIFICATE-----\nMIJ"))

    unit.feed = spoilt  # type: ignore[method-assign]  # the line turns bits over
    end = await bench(tmp_path, unit).visit(MemoryLine(unit))
    assert (end.step, end.detail) == (Step.FAILED, "the firmware refuses program-dev-cert")


async def test_a_chip_whose_serial_number_is_cut_is_not_taken_for_another(tmp_path: Path) -> None:
    unit = Atecc(serial=bytes(4))
    end = await bench(tmp_path, unit).visit()
    assert (end.step, end.cause) == (Step.FAILED, Cause.OTHER_FIRMWARE)
