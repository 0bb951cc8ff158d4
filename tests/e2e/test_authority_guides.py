"""The commands of the guides to authorities, run as a reader would run them, in the order of the page."""

from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.tokens import SoftHsm

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


def follow(reader: Reader, page: str) -> None:
    for step in steps((GUIDES / page).read_text()):
        output = reader.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )


@pytest.mark.needs("openssl")
def test_a_company_signs_the_issuing_ca_as_the_guide_says(reader: Reader) -> None:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    follow(reader, "bring-your-own-root.md")
    reader.run(Step("openssl verify -CAfile root.pem -untrusted chain.pem d1/current/cert.pem"))
    reader.run(Step("device-agent --state d1 renew"))
    reader.run(Step("fleet doctor || [ $? = 7 ]"))


@pytest.mark.needs("softhsm2-util")
def test_the_keys_of_a_fleet_are_in_a_token_as_the_guide_says(reader: Reader) -> None:
    pytest.importorskip("pkcs11")
    with SoftHsm.at(reader.folder / "softhsm") as hsm:
        reader.environment["SOFTHSM2_CONF"] = str(hsm.folder / "softhsm2.conf")
        reader.run(Step("export FLEET_HOME=$PWD/acme"))
        follow(reader, "use-an-hsm.md")
