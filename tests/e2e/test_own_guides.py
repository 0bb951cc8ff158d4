"""The commands of two guides, run as a reader would: to adopt a fleet, and to bring a certificate."""

import re
from pathlib import Path

import pytest

from fleet.config import parse
from tests.e2e.test_est_guide import beside_a_server, on_free_ports
from tests.e2e.test_tutorial import Reader, reader, shows, steps

__all__ = ["beside_a_server", "reader"]

HOW_TO = Path(__file__).parents[2] / "docs/how-to"


def follow(guided: Reader, page: str) -> None:
    for step in steps((HOW_TO / page).read_text()):
        if step.command == "fleet serve":
            stop_servers(guided)
        output = guided.run(step if step.command == "fleet serve" else on_free_ports(step, guided.folder))
        if step.command != "fleet serve":
            assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
                step.expected
            )


def stop_servers(guided: Reader) -> None:
    while guided.others:
        process = guided.others.pop()
        process.terminate()
        process.wait(timeout=30)
    # A file of the next one would tell that it is ready.
    for log in guided.folder.glob("terminal-*"):
        log.unlink()


@pytest.mark.needs("curl", "openssl", "mosquitto_pub")
def test_the_guide_to_adopting_a_fleet_does_what_it_says(beside_a_server: Reader) -> None:
    follow(beside_a_server, "adopt-a-fleet.md")


@pytest.mark.needs("curl", "openssl")
def test_the_guide_to_a_public_server_certificate_does_what_it_says(beside_a_server: Reader) -> None:
    follow(beside_a_server, "use-a-public-server-certificate.md")


def test_the_configuration_that_the_guide_shows_is_one() -> None:
    page = (HOW_TO / "use-a-public-server-certificate.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    server = parse(f'{shown}\n[fleet]\nname = "acme"\n[domains.prod]\n').server
    assert server.certificate is not None
    assert server.key is not None
    assert server.trust is not None
