"""`fleet monitor --watch`: what is refused from now on, each time that more of it has come."""

import pytest

from fleet.cli import monitor
from fleet.cli.client import Client
from fleet.cli.output import Form, Members


def row(times: int, *, cause: str = "expired") -> Members:
    names = ("domain", "device_id", "name", "serial")
    return {
        **dict.fromkeys(names, ""),
        "place": "log:web",
        "cause": cause,
        "address": "192.0.2.7",
        "last_at": "2026-05-01T12:00:00Z",
        "times": times,
    }


class Server(Client):
    """Answers with one page after another, then is gone."""

    def __init__(self, *pages: list[Members]) -> None:
        self.pages = list(pages)

    def items(self, *_parts: str, limit: int | None = None, **_query: str | int | None):  # type: ignore[no-untyped-def,override]  # a list will do
        if not self.pages:
            raise KeyboardInterrupt
        return iter(self.pages.pop(0)[:limit])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_LOOK_SECONDS", 0)


def watched(capsys: pytest.CaptureFixture[str], form: Form, *pages: list[Members]) -> list[str]:
    with pytest.raises(KeyboardInterrupt):
        monitor.watch_troubles(Server(*pages), {}, [row(2)], form)
    return capsys.readouterr().out.splitlines()


def test_only_what_is_new_is_told_with_how_often(capsys: pytest.CaptureFixture[str]) -> None:
    more = [row(5), row(1, cause="revoked")]
    lines = watched(capsys, Form.TABLE, [row(2)], more, more)
    assert lines == [
        "2026-05-01T12:00:00Z  revoked  -  192.0.2.7  log:web",
        "2026-05-01T12:00:00Z  expired  -  192.0.2.7  log:web  3 times",
    ]


def test_programs_get_a_line_of_json_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = watched(capsys, Form.JSONL, [row(3)])
    assert '"times":1' in line
