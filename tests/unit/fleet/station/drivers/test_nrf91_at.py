"""Modems of the nRF91: what they are asked, what they may answer, and what is believed of it."""

from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.model import KeyOrigin
from fleet.station.drivers.console import Console
from fleet.station.drivers.credentials import credentials_of
from fleet.station.drivers.nrf91_at import Nrf91
from fleet.station.link.causes import Cause
from fleet.station.link.steps import Step
from tests.vendors.bench import Bench
from tests.vendors.line import MemoryLine
from tests.vendors.modem import Modem
from tests.vendors.shell import AtShell

TAG = 42


def bench(path: Path, modem: Modem, *, shell: bool = False, listed: bool = False) -> Bench:
    identities = {str(modem.uuid): modem.identity.public_key()} if listed else {}

    def make(console: Console) -> Nrf91:
        return Nrf91(console, tag=TAG, identities=MappingProxyType(identities))

    return Bench(path=path / "ledger.db", unit=AtShell(modem=modem) if shell else modem, make=make)


async def test_a_modem_makes_its_key_and_holds_what_was_issued_for_it(tmp_path: Path) -> None:
    modem = Modem()
    line = bench(tmp_path, modem)
    end = await line.visit()
    assert (end.step, end.detail) == (Step.COMMITTED, "")
    unit = await line.ledger_unit(str(modem.uuid))
    package = unit.generations[-1].package
    assert package is not None
    credentials = credentials_of(package)
    assert modem.stored == {(TAG, 0): credentials.servers, (TAG, 1): credentials.chain}
    leaf = x509.load_der_x509_certificate(package.leaf)
    assert leaf.public_key() == modem.keys[TAG].public_key()
    assert unit.device_id == "line3-0001"
    assert "352656100367872" in unit.model


@pytest.mark.parametrize("at_once", ["echoes", "chatters", "writes_null"])
async def test_echo_unasked_lines_and_old_encodings_do_not_disturb(tmp_path: Path, at_once: str) -> None:
    modem = Modem(**{at_once: True})
    line = bench(tmp_path, modem)
    assert (await line.visit()).step is Step.COMMITTED


@pytest.mark.parametrize("logs", [False, True])
async def test_a_modem_behind_a_shell_is_served_as_well(tmp_path: Path, logs: bool) -> None:
    modem = Modem()
    line = bench(tmp_path, modem, shell=True)
    assert isinstance(line.unit, AtShell)
    line.unit.logs = logs
    assert (await line.visit()).step is Step.COMMITTED
    assert TAG in modem.keys


async def test_a_modem_that_was_made_before_is_recognised_and_gets_nothing_new(tmp_path: Path) -> None:
    modem = Modem()
    line = bench(tmp_path, modem)
    await line.visit()
    stored, line.moves = dict(modem.stored), []
    assert (await line.visit()).step is Step.COMMITTED
    assert Step.ISSUE not in line.moves
    assert (modem.generated, modem.stored) == (1, stored)
    await line.assert_one_is_live(str(modem.uuid))


async def test_a_cut_at_each_exchange_ends_with_one_live_certificate(tmp_path: Path) -> None:
    whole = bench(tmp_path, Modem())
    await whole.visit()
    for at in range(1, whole.exchanges + 1):
        for before in (True, False):
            folder = tmp_path / f"{at}-{before}"
            folder.mkdir()
            modem = Modem()
            line = bench(folder, modem)
            await line.cut(at, before=before)
            assert (await line.visit()).step is Step.COMMITTED
            await line.assert_one_is_live(str(modem.uuid))
            assert set(modem.keys) == {TAG}


async def test_a_listed_chip_counts_as_attested(tmp_path: Path) -> None:
    line = bench(tmp_path, Modem(), listed=True)
    assert (await line.visit()).step is Step.COMMITTED
    assert [asked.key for asked in line.asked] == [KeyOrigin.ATTESTED]


async def test_without_a_list_the_key_is_the_devices_by_its_word(tmp_path: Path) -> None:
    line = bench(tmp_path, Modem())
    await line.visit()
    assert [asked.key for asked in line.asked] == [KeyOrigin.DEVICE]


async def test_a_chip_that_is_not_on_the_list_is_refused(tmp_path: Path) -> None:
    listed = Modem()
    line = bench(tmp_path, listed, listed=True)
    line.unit = stranger = Modem(uuid=UUID(int=7))
    end = await line.visit()
    assert (end.step, end.cause) == (Step.FAILED, Cause.WRONG_DEVICE)
    assert stranger.keys == {}


async def test_a_forged_signature_puts_the_unit_into_quarantine(tmp_path: Path) -> None:
    modem = Modem(signs=ec.generate_private_key(ec.SECP256R1()))
    line = bench(tmp_path, modem, listed=True)
    end = await line.visit()
    assert end.step is Step.QUARANTINED
    assert "did not sign" in end.detail


async def test_another_chip_in_the_middle_puts_the_unit_into_quarantine(tmp_path: Path) -> None:
    modem = Modem()
    line = bench(tmp_path, modem)
    wire = MemoryLine(modem)

    def swap(octets: bytes) -> bytes:
        if b"%KEYGEN" in octets:
            modem.uuid = UUID(int=9)
        return octets

    wire.spoil = swap
    assert (await line.visit(wire)).step is Step.QUARANTINED


async def test_an_unknown_certificate_is_never_written_over(tmp_path: Path) -> None:
    modem = Modem(stored={(TAG, 1): "somebody else's"})
    line = bench(tmp_path, modem)
    end = await line.visit()
    assert end.step is Step.QUARANTINED
    assert modem.stored == {(TAG, 1): "somebody else's"}


async def test_what_cannot_be_replaced_is_deleted_first(tmp_path: Path) -> None:
    modem = Modem(stored={(TAG, 0): "an old anchor"}, may_replace=False)
    assert (await bench(tmp_path, modem).visit()).step is Step.COMMITTED


async def test_a_full_memory_is_told(tmp_path: Path) -> None:
    end = await bench(tmp_path, Modem(capacity=0)).visit()
    assert end.step is Step.FAILED
    assert "its memory is full" in end.detail


async def test_a_modem_that_lies_about_its_digests_is_not_committed(tmp_path: Path) -> None:
    modem = Modem()
    wire = MemoryLine(modem)
    wire.spoil = lambda octets: octets.replace(b'42,1,"', b'42,1,"00')
    line = bench(tmp_path, modem)
    end = await line.visit(wire)
    assert (end.step, end.cause) == (Step.FAILED, Cause.BAD_CABLE)


async def test_nobody_there_is_silence(tmp_path: Path) -> None:
    class Nobody:
        def feed(self, octets: bytes) -> bytes:
            return b""

        def power_cycle(self) -> None: ...

    line = bench(tmp_path, Modem())
    line.unit = Nobody()
    assert (await line.visit()).step is Step.SILENT


@pytest.mark.parametrize(
    "said",
    [b'%KEYGEN: "only half\r\nOK\r\n', b"%KEYGEN: \r\nOK\r\n", b"OK\r\n"],
)
async def test_an_answer_that_is_none_fails_the_visit_alone(tmp_path: Path, said: bytes) -> None:
    wire = MemoryLine(Modem())
    wire.spoil = lambda octets: said if b"%KEYGEN" in octets else octets
    line = bench(tmp_path, Modem())
    end = await line.visit(wire)
    assert (end.step, end.cause) == (Step.FAILED, Cause.OTHER_FIRMWARE)
