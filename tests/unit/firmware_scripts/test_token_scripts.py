"""Tokens that the scripts prepare, read back by OpenSC and OpenSSL."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.keys import cryptoki
from device_agent.keys.pins import PinSource
from device_agent.keys.uri import parse_token_uri
from firmware_scripts.token.__main__ import main
from tests import tokens, tpm_tokens
from tests.swtpm import running_tpm
from tests.tokens import SoftHsm


@pytest.fixture(
    params=[
        pytest.param("softhsm", marks=pytest.mark.needs("softhsm2-util", "pkcs11-tool", "openssl")),
        pytest.param("tpm", marks=pytest.mark.needs(*tpm_tokens.PROGRAMS)),
    ]
)
def module(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with an empty token."""
    if request.param == "softhsm":
        with SoftHsm.at(tmp_path / "softhsm"):
            yield tokens.MODULE
        return
    with running_tpm(tmp_path / "tpm", certified=False) as tpm:
        (tmp_path / "store").mkdir()
        monkeypatch.setenv("TPM2_PKCS11_TCTI", tpm.place)
        monkeypatch.setenv("TPM2_PKCS11_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("TSS2_LOG", "all+none")
        yield tpm_tokens.MODULE


@pytest.fixture
def init(module: str, tmp_path: Path) -> list[str]:
    pins = ("--pin-file", f"{tmp_path}/pin", "--so-pin-file", f"{tmp_path}/so-pin")
    return ["init", "--module", module, "--label", "gw 1", *pins]


def test_a_token_is_initialised_with_pins_of_its_own_and_left_alone_the_next_time(
    init: list[str], module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(init) == 0
    first = capsys.readouterr()
    assert main(init) == 0
    assert capsys.readouterr() == first

    uri = parse_token_uri(first.out.strip())
    pin = PinSource(uri.pin_source).read("").reveal()
    assert uri.token == "gw 1"
    assert pin not in first.out + first.err
    login = ("--token-label", "gw 1", "--login", "--pin", pin, "--list-objects")
    subprocess.run(["pkcs11-tool", "--module", module, *login], check=True, capture_output=True)
    for name in ("pin", "so-pin"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_key_is_made_inside_once_and_its_line_can_be_imported(
    init: list[str], module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(init)
    uri = capsys.readouterr().out.strip()
    make = ["key", "--key", uri, "--device", "gw1"]
    assert main(make) == 0
    line = capsys.readouterr().out
    assert main(make) == 0
    assert capsys.readouterr().out == line

    # What the script does at its end: until then, the TPM has no room for another program's keys.
    cryptoki.load(module).restart()
    held = base64.b64decode(line.splitlines()[1].split(",")[1])
    pin = (tmp_path / "pin").read_text().strip()
    read = ("--token-label", "gw 1", "--login", "--pin", pin, "--read-object", "--type", "pubkey")
    command = ["pkcs11-tool", "--module", module, *read, "--label", "gw1.made"]
    point = subprocess.run(command, check=True, capture_output=True).stdout
    shown = subprocess.run(
        ["openssl", "pkey", "-pubin", "-inform", "DER", "-outform", "DER"],
        input=point,
        check=True,
        capture_output=True,
    ).stdout
    assert shown == held


def test_a_pin_that_others_can_read_is_not_used(
    init: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pin").touch(mode=0o644)
    assert main(init) == 6
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "--module", "/nowhere.so", "--label", "a", "--pin-file", "p", "--so-pin-file", "s"],
        ["init", "--module", "/nowhere.so", "--label", "a" * 33, "--pin-file", "p", "--so-pin-file", "s"],
        ["key", "--key", "pkcs11:token=a", "--device", "gw1"],
        ["key", "--key", "pkcs11:token=a?module-path=/nowhere.so", "--device", "a/b"],
    ],
)
def test_a_bad_value_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 6
    assert capsys.readouterr().err.startswith("error: ")
