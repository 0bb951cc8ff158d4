"""The commands of the guides to organising a fleet and to moving devices, run as a reader would run them."""

from pathlib import Path

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


def follow(guided: Reader, guide: str) -> None:
    for step in steps((GUIDES / guide).read_text()):
        output = guided.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )


def serve(guided: Reader, *domains: str) -> None:
    of = " ".join(f"--domain {domain}" for domain in domains)
    for command in ("export FLEET_HOME=$PWD/acme", f"fleet init --name acme {of}"):
        guided.run(Step(command))
    guided.run(Step("fleet serve", expected=["ready"]))


def test_a_fleet_is_organised_as_the_guide_says(reader: Reader) -> None:
    serve(reader, "prod")
    follow(reader, "organise-a-fleet.md")


def test_devices_move_as_the_guide_says(reader: Reader) -> None:
    serve(reader, "prod", "lab")
    follow(reader, "replace-transfer-return.md")
