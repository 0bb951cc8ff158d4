"""What `fleet.toml` says of logs, traces, the monitor and retention; what is wrong has its line."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.config import parse
from fleet.core.log_lines import Product
from fleet.errors import BadInputError
from fleet.watching_sections import LogForm, LogLevel

HEAD = '[fleet]\nname = "acme"\n[domains.prod]\n'


def test_what_nobody_wrote_is_as_usual() -> None:
    found = parse(HEAD)
    assert (found.log.form, found.log.level, found.tracing) == (LogForm.TEXT, LogLevel.INFO, None)
    assert found.retention.connections == timedelta(days=90)
    assert found.monitor.logs == ()


def test_logs_traces_and_retention_are_read() -> None:
    found = parse(
        f'{HEAD}[log]\nformat = "json"\nlevel = "debug"\n[tracing]\ncollector = "http://127.0.0.1:4318"\n'
        "share = 0.5\n[retention]\nconnections_days = 7\nconnections_per_device = 10\n"
    )
    assert (found.log.form, found.log.level) == (LogForm.JSON, LogLevel.DEBUG)
    assert found.tracing is not None
    assert (found.tracing.collector, found.tracing.share) == ("http://127.0.0.1:4318", 0.5)
    assert (found.retention.connections_days, found.retention.connections_per_device) == (7, 10)


def test_watched_logs_are_read() -> None:
    log = '[monitor.logs.web]\nproduct = "apache"\nfile = "/var/log/e.log"\n'
    found = parse(f'{HEAD}[monitor]\nshippers = ["prod:web-1"]\n{log}').monitor
    assert found.shippers == ("prod:web-1",)
    (log,) = found.logs
    assert (log.name, log.product, log.file) == ("web", Product.APACHE, Path("/var/log/e.log"))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[log]\nformat = "xml"\n', 5, "format must be one of"),
        ("[log]\nfile = 1\n", 5, "unknown key 'file'"),
        ('[tracing]\ncollector = "ftp://x"\n', 5, "collector must be"),
        ("[tracing]\nshare = 0.5\n", 4, "collector must be"),
        ("[retention]\nconnections_days = 0\n", 5, "connections_days must be"),
        ("[retention]\nforever = true\n", 5, "unknown key"),
        ('[monitor.logs.web]\nproduct = "nginx"\n', 4, "file must name the log"),
        ('[monitor.logs.web]\nfile = "/x"\n', 4, "product must say"),
        ('[monitor.logs.web]\nfile = "/x"\nproduct = "iis"\n', 6, "product must be one of"),
        ('[monitor.logs."a b"]\nfile = "/x"\nproduct = "nginx"\n', 4, "log"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(BadInputError, match=what) as found:
        parse(HEAD + text)
    assert f"fleet.toml:{line}:" in str(found.value)
