"""The commands of the guide to forecasts, run as a reader would run them."""

import json
from pathlib import Path

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/forecast-an-outage.md"
ENROLL = (
    "device-agent --state d1 enroll --mqtt localhost:8884 --device d1 --code-file d1.code"
    " --claim acme/trust/prod/public-claim.crt,acme/trust/prod/public-claim.key --trust acme/trust/server.pem"
)


def test_an_outage_is_forecast_as_the_guide_says(reader: Reader) -> None:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    made = json.loads(reader.run(Step("fleet claim create --device d1 --json 2>/dev/null")))
    (reader.folder / "d1.code").write_text(made[0]["code"])
    reader.run(Step(ENROLL))
    for step in steps(GUIDE.read_text()):
        output = reader.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
