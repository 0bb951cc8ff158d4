"""The commands of the guides to tokens and TPMs, run as a reader would, in the order of each page."""

from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.swtpm import running_tpm
from tests.tpm_tokens import PROGRAMS

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    return reader


def follow(guided: Reader, page: str) -> None:
    for step in steps((GUIDES / page).read_text()):
        output = guided.run(step)
        wanted = "\n".join(step.expected)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n{wanted}"


@pytest.mark.needs("softhsm2-util", "pkcs11-tool")
def test_the_guide_to_tokens_does_what_it_says(home: Reader) -> None:
    (home.folder / "tokens").mkdir()
    config = home.folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {home.folder / 'tokens'}\nlog.level = ERROR\n")
    home.environment["SOFTHSM2_CONF"] = str(config)
    follow(home, "key-in-a-token.md")


@pytest.mark.needs(*PROGRAMS)
def test_the_guide_to_tpms_as_tokens_does_what_it_says(home: Reader) -> None:
    with running_tpm(home.folder / "tpm", certified=False) as tpm:
        quiet = {"TSS2_LOG": "all+none", "TPM2_PKCS11_LOG_LEVEL": "0"}
        home.environment |= {"TPM2_PKCS11_TCTI": tpm.place, **quiet}
        follow(home, "key-in-a-tpm.md")
