"""`fleet serve` with `[log] format = "json"`: each line is one record, and each request is among them."""

import json
from pathlib import Path

from tests.cli.conftest import copy_home, enroll, served


def test_every_line_is_json_and_an_enrollment_is_told(tmp_path: Path, made_home: Path) -> None:
    home = copy_home(made_home, tmp_path)
    with (home / "fleet.toml").open("a") as config:
        config.write('[log]\nformat = "json"\n')
    with served(tmp_path):
        enroll(tmp_path, "alpha")
    lines = (tmp_path / "serve.log").read_text().splitlines()
    records = [json.loads(line) for line in lines if not line.startswith(("devices ", "certificate "))]
    assert {"at", "level", "event", "text"} <= set.intersection(*(set(one) for one in records))
    (told,) = [one for one in records if one["event"] == "request.answered" and one["kind"] == "enroll"]
    assert (told["device"], told["outcome"], told["channel"]) == ("alpha", "ok", "bootstrap")
    assert len(told["request"]) == 36
