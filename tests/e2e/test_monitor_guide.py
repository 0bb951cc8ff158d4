"""The guide to refused clients, followed with a live nginx whose log it reads."""

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from fleet.core.log_lines import Product
from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.relying_servers import make_certificates, serving, visit
from tests.waiting import until

__all__ = ["reader"]

pytestmark = pytest.mark.needs("nginx")

GUIDE = (Path(__file__).parents[2] / "docs/how-to/see-why-clients-are-refused.md").read_text()
SHOWN = "/var/log/nginx/error.log"


def is_seen(reader: Reader) -> bool:
    return "expired" in reader.run(Step("fleet monitor"))


def test_the_guide_does_what_it_says(reader: Reader, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    with serving(Product.NGINX, made, tmp_path / "nginx") as nginx:
        asyncio.run(until(lambda: "while SSL handshaking" in nginx.log.read_text()))
        nginx.log.write_text("")  # of the connection that saw it run
        blocks = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
        with (tmp_path / "acme/fleet.toml").open("a") as config:
            config.write("\n".join(blocks).replace(SHOWN, str(nginx.log)))
        for step in steps(GUIDE):
            command = step.command.replace(SHOWN, str(nginx.log))
            if "https://fleet.example.com:8443" in command:
                port = json.loads((tmp_path / "acme/run/endpoints.json").read_text())["https"]["port"]
                command = command.replace("fleet.example.com:8443", f"localhost:{port}")
            if command == "fleet monitor" and "nobody was refused" not in step.expected:
                asyncio.run(visit(nginx, made, "expired"))
                deadline = time.monotonic() + 30
                while not is_seen(reader):
                    assert time.monotonic() < deadline
            output = reader.run(Step(command))
            wanted = "\n".join(step.expected)
            assert shows(output, step.expected), f"$ {command}\n{output}\nthe page shows:\n{wanted}"
