"""The commands of the guide to rollouts, run as a reader would run them, on devices that run beside."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/lead-a-rollout.md"
ENROLL = (
    "device-agent --state {name} enroll --mqtt localhost:8884 --device {name} --code-file {name}.code"
    " --claim acme/trust/prod/public-claim.crt,acme/trust/prod/public-claim.key --trust acme/trust/server.pem"
)
PLAN = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture
def served(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    return reader


def with_devices(reader: Reader, *names: str) -> None:
    devices = " ".join(f"--device {name}" for name in names)
    codes = json.loads(reader.run(Step(f"fleet claim create --domain prod {devices} --json 2>/dev/null")))
    for one in codes:
        name = one["device_id"]
        (reader.folder / f"{name}.code").write_text(one["code"])
        reader.run(Step(ENROLL.format(name=name)))
        reader.run(Step(f"device-agent --state {name} run &"))


def until_over(reader: Reader) -> None:
    """A reader looks on as long as it takes."""
    deadline = time.monotonic() + 120
    while (found := json.loads(reader.run(Step("fleet rollout status new-keys --json"))))[
        "state"
    ] == "running":
        assert time.monotonic() < deadline, found


def test_a_rollout_goes_as_the_guide_says(served: Reader) -> None:
    page = GUIDE.read_text()
    with_devices(served, "d1", "d2", "d3", "d4")
    plan = PLAN.search(page)
    assert plan is not None
    (served.folder / "plan.toml").write_text(plan[1])
    for step in steps(page):
        if step.command == "fleet rollout status new-keys":
            until_over(served)
        output = served.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
