"""The commands of the guides to tokens and TPMs, run as a reader would, in the order of each page."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.pki import pem_of
from tests.swtpm import running_tpm
from tests.tokens import MODULE, SoftHsm
from tests.tpm_tokens import PROGRAMS
from tests.yubikeys import YubiKey

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    return reader


def follow(guided: Reader, page: str, change: Callable[[Step], Step] = lambda step: step) -> None:
    for step in steps((GUIDES / page).read_text()):
        output = guided.run(change(step))
        wanted = "\n".join(step.expected)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n{wanted}"


@pytest.mark.needs("softhsm2-util", "pkcs11-tool")
def test_the_guide_to_tokens_does_what_it_says(home: Reader) -> None:
    (home.folder / "tokens").mkdir()
    config = home.folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {home.folder / 'tokens'}\nlog.level = ERROR\n")
    home.environment["SOFTHSM2_CONF"] = str(config)
    follow(home, "key-in-a-token.md")


@pytest.mark.needs("softhsm2-util")
def test_the_guide_to_yubikeys_does_what_it_says_with_a_soft_token_in_its_place(home: Reader) -> None:
    library, yubikey = "/usr/lib/x86_64-linux-gnu/libykcs11.so", YubiKey()
    with SoftHsm.at(home.folder / "softhsm") as hsm:
        token = hsm.token(label="YubiKey PIV #1")
        home.environment["SOFTHSM2_CONF"] = str(home.folder / "softhsm" / "softhsm2.conf")
        token.pin_file.rename(home.folder / "pin")
        moved = replace(token, pin_file=home.folder / "pin")
        key = moved.make_piv_key("9a")
        moved.make_piv_key("82")
        yubikey.write(home.folder / "attestation", key)
        (home.folder / "yubico.pem").write_bytes(pem_of(yubikey.root.certificate))
        follow(
            home,
            "key-in-a-yubikey.md",
            lambda step: replace(step, command=step.command.replace(library, MODULE)),
        )


@pytest.mark.needs(*PROGRAMS)
def test_the_guide_to_tpms_as_tokens_does_what_it_says(home: Reader) -> None:
    with running_tpm(home.folder / "tpm", certified=False) as tpm:
        quiet = {"TSS2_LOG": "all+none", "TPM2_PKCS11_LOG_LEVEL": "0"}
        home.environment |= {"TPM2_PKCS11_TCTI": tpm.place, **quiet}
        follow(home, "key-in-a-tpm.md")
