"""The commands of the guides to proofs of identity, run as a reader would, in the order of each page."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.manifests import ManifestMaker
from tests.swtpm import running_tpm

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"
Change = Callable[[Step], Step]


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    return reader


def follow(guided: Reader, page: str, change: Change) -> None:
    for step in steps((GUIDES / page).read_text()):
        output = guided.run(change(step))
        wanted = "\n".join(step.expected)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n{wanted}"


def test_the_guide_to_approvals_does_what_it_says(home: Reader) -> None:
    home.run(Step("fleet serve"))

    def with_files(step: Step) -> Step:
        claims = sorted(home.folder.rglob("*line3*.crt"))
        claim = claims[0] if claims else home.folder
        pair = f"{claim},{claim.with_suffix('.key')}"
        return replace(step, command=step.command.replace("CLAIM", pair))

    follow(home, "approve-by-hand.md", with_files)


@pytest.mark.needs("swtpm", "swtpm_setup")
def test_the_guide_to_tpms_does_what_it_says(home: Reader) -> None:
    with running_tpm(home.folder / "tpm") as tpm:
        (home.folder / "vendor.pem").write_bytes(tpm.anchors.read_bytes())
        follow(
            home,
            "attest-by-tpm.md",
            lambda step: replace(step, command=step.command.replace("--tpm ", f"--tpm {tpm.place} ")),
        )


def test_the_guide_to_makers_lists_does_what_it_says(home: Reader) -> None:
    maker = ManifestMaker(at=datetime.now(UTC))
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2)]
    entries = [maker.entry(f"0123f1822c38dd7a0{number}", key) for number, key in enumerate(keys)]
    (home.folder / "manifest.json").write_text(json.dumps(entries))
    (home.folder / "maker.crt").write_bytes(maker.certificate.public_bytes(Encoding.PEM))
    follow(home, "use-a-makers-list.md", lambda step: step)
