"""Which driver a station works with, and what is refused of it before anything is plugged in."""

import base64
import builtins
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.cli import station_run
from fleet.errors import BadInputError, RefusedError, UsageError
from fleet.station.drivers.choice import MAKES_KEYS, SETTINGS, Choice, HostKeys, Name, drivers_of
from tests.vendors.line import MemoryLine
from tests.vendors.modem import Modem


def test_our_own_driver_needs_no_other() -> None:
    assert drivers_of(Choice(), baud=115200) is None


@pytest.mark.parametrize("name", sorted(MAKES_KEYS))
def test_keys_of_the_host_are_refused_unless_allowed(name: Name) -> None:
    with pytest.raises(RefusedError, match="makes the devices' keys") as caught:
        drivers_of(Choice(name=name), baud=115200)
    assert caught.value.hint == "if no other driver fits your devices: --host-keys"
    assert drivers_of(Choice(name=name, host_keys=HostKeys.ALLOWED), baud=115200) is not None


def test_a_manifest_is_not_plugged_in() -> None:
    with pytest.raises(UsageError, match="imported") as caught:
        drivers_of(Choice(name=Name.MICROCHIP_MANIFEST), baud=115200)
    assert caught.value.hint == "fleet device import FILE --signer CERT"


@pytest.mark.parametrize("name", sorted(set(Name) - {Name.MICROCHIP_MANIFEST}))
def test_an_unknown_setting_is_refused_with_those_that_there_are(name: Name) -> None:
    with pytest.raises(UsageError, match="no setting colour") as caught:
        drivers_of(Choice(name=name, settings={"colour": "red"}, host_keys=HostKeys.ALLOWED), baud=115200)
    assert caught.value.hint is not None
    assert all(setting in caught.value.hint for setting in SETTINGS[name])


@pytest.mark.parametrize("value", ["", "x", "-1", str(2**32)])
def test_a_tag_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(BadInputError, match="setting tag"):
        drivers_of(Choice(name=Name.NCS_SHELL, settings={"tag": value}), baud=115200)


@pytest.mark.parametrize("name", [Name.NRF91_AT, Name.NCS_SHELL, Name.ESP_ATECC])
async def test_a_driver_is_made_for_each_visit(name: Name) -> None:
    make = drivers_of(Choice(name=name), baud=115200)
    assert make is not None

    async def recall(_hardware_id: str) -> tuple[()]:
        return ()

    line = MemoryLine(Modem())
    assert make(line, recall) is not make(line, recall)


def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "esptool" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(UsageError, match="esptool is not installed") as caught:
        drivers_of(Choice(name=Name.ESP_IMAGE, host_keys=HostKeys.ALLOWED), baud=115200)
    assert caught.value.hint == "pip install 'fleet-provisioning[esp]'"


def test_no_vendor_package_is_imported_by_choosing(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def refuse(name: str, *arguments: object, **options: object) -> object:
        assert name.partition(".")[0] not in {"esptool", "nrfcredstore", "esp_secure_cert"}
        return load(name, *arguments, **options)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in set(Name) - {Name.MICROCHIP_MANIFEST}:
        drivers_of(Choice(name=name, host_keys=HostKeys.ALLOWED), baud=115200)


def key_of(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def test_a_list_of_identities_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chips.csv"
    modem = Modem()
    path.write_text(f"uuid,public_key\n{modem.uuid},{key_of(modem.identity.public_key())}\n")
    chosen = Choice(name=Name.NRF91_AT, settings={"identities": str(path)})
    assert drivers_of(chosen, baud=115200) is not None


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "uuid,public_key\n",
        "one\n",
        "u,AAAA\n",
        f"u,{key_of(ed25519.Ed25519PrivateKey.generate().public_key())}\n",
        f"u,{key_of(ec.generate_private_key(ec.SECP384R1()).public_key())}\n",
    ],
    ids=["empty", "head-only", "one-column", "no-key", "ed25519", "p384"],
)
def test_a_list_of_identities_that_is_none_is_refused(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "chips.csv"
    path.write_text(rows)
    with pytest.raises(BadInputError):
        drivers_of(Choice(name=Name.NRF91_AT, settings={"identities": str(path)}), baud=115200)


def test_the_page_of_drivers_names_each_with_its_settings() -> None:
    page = (Path(__file__).parents[5] / "docs/reference/drivers.md").read_text()
    settings = page.partition("## Settings")[2].partition("\n## ")[0]
    assert [name for name in Name if f"| `{name}` |" not in page] == []
    assert [one for found in SETTINGS.values() for one in found if f"`{one}`" not in settings] == []


def test_the_command_offers_these_drivers() -> None:
    command = station_run.command
    (option,) = (one for one in command.params if one.name == "driver")
    assert list(option.type.choices) == [name.value for name in Name]  # type: ignore[attr-defined]  # a Choice
