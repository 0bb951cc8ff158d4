"""The how-to "check a client": its commands, as they stand on the page, but for the port."""

import os
import random
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/how-to/check-a-client.md"


def commands() -> tuple[str, str, str]:
    """The kit, and what the page does with our agent."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    kit = blocks[0].strip()
    enroll, run = blocks[1].replace("\\\n", " ").strip().splitlines()
    return kit, enroll, run


def free_port() -> int:
    """Return a port that no client is given while the kit starts."""
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10000, first_of_clients)
        with suppress(OSError), socket.create_server(("localhost", port)):
            return port


def test_our_agent_passes_as_the_page_says(tmp_path: Path) -> None:
    kit, enroll, run = (one.replace("8883", str(port)) for port in [free_port()] for one in commands())
    client = (
        f"until [ -s kit/code ]; do sleep 0.1; done; until {enroll}; do sleep 0.1; done 2>agent.log; "
        f"exec {run} 2>>agent.log"
    )
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "NO_COLOR": "1"}
    with subprocess.Popen(["bash", "-c", client], cwd=tmp_path, env=environment) as agent:
        try:
            checked = subprocess.run(
                ["bash", "-c", kit],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
        finally:
            agent.terminate()
    log = tmp_path / "agent.log"
    said = checked.stdout + checked.stderr + (log.read_text() if log.exists() else "it never began")
    assert checked.returncode == 0, said
    assert "16 passed, 0 failed, 0 not reached" in checked.stderr, said
