"""The commands of guides to backups, certificates and evidence, run as a reader would run them."""

from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    "guide", ["back-up-and-restore", "check-a-certificate", "hand-evidence-to-an-auditor"]
)
def test_the_guide_does_what_it_says(reader: Reader, guide: str) -> None:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    for step in steps((GUIDES / f"{guide}.md").read_text()):
        output = reader.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
