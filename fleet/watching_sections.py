"""Reads `[log]`, `[tracing]` and `[monitor]` out of `fleet.toml`: how it is watched, and what it watches."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.log_lines import Product
from fleet.toml_section import Section

_MOST_LOGS = 32
_MOST_SHIPPERS = 1000
_COLLECTOR = re.compile(
    r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:/[\x21-\x7e]{0,512})?"
)


class LogForm(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """What is logged: this, and what is graver."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How the server logs, on stderr."""

    form: LogForm = LogForm.TEXT
    level: LogLevel = LogLevel.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """Where traces go by OTLP over HTTP."""

    collector: str
    """Such as http://127.0.0.1:4318; `/v1/traces` is put behind it."""
    share: float = 1.0
    """Of all requests, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedLog:
    """A log of a relying party on this machine."""

    name: str
    product: Product
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorConfig:
    """Which logs are read for certificate errors, and who may hand in those of other machines."""

    logs: tuple[WatchedLog, ...] = ()
    shippers: tuple[str, ...] = field(default=())
    """Broker names of devices (`domain:id`) that may hand in lines, beside operators."""


def read_log(section: Section) -> LogConfig:
    """Read the table `log`; raises `BadInputError`."""
    usual = LogConfig()
    found = LogConfig(
        form=section.word("format", usual.form, words=LogForm),
        level=section.word("level", usual.level, words=LogLevel),
    )
    section.close()
    return found


def read_tracing(top: Section) -> TracingConfig | None:
    """Read the table `tracing`, None where there is none; raises `BadInputError`."""
    if "tracing" not in top.names():
        return None
    section = top.section("tracing")
    collector = section.text("collector", "", longest=1024)
    if not _COLLECTOR.fullmatch(collector):
        raise section.error(
            "collector", "collector must be http://HOST[:PORT] or https://", hint='"http://127.0.0.1:4318"'
        )
    found = TracingConfig(collector=collector, share=section.fraction("share", 1.0, bounds=(0.0, 1.0)))
    section.close()
    return found


def read_monitor(section: Section) -> MonitorConfig:
    """Read the table `monitor`; raises `BadInputError`."""
    logs = section.section("logs")
    if len(logs.names()) > _MOST_LOGS:
        raise logs.error(
            None, f"at most {_MOST_LOGS} logs are read", hint="ship the others: fleet monitor ship"
        )
    found = MonitorConfig(
        logs=tuple(_log(logs, name) for name in logs.names()),
        shippers=section.texts("shippers", (), most=_MOST_SHIPPERS),
    )
    section.close()
    return found


def _log(logs: Section, name: str) -> WatchedLog:
    section = logs.section(name)
    try:
        parse_domain(name)
    except MalformedMessageError as error:
        raise section.error(None, f"log {error}", hint="such as [monitor.logs.web]") from error
    file = section.file("file")
    if file is None:
        raise section.error(
            "file", "file must name the log", hint='such as file = "/var/log/nginx/error.log"'
        )
    if "product" not in section.names():
        raise section.error(None, "product must say whose log it is", hint=", ".join(Product))
    found = WatchedLog(name=name, product=section.word("product", Product.NGINX, words=Product), file=file)
    section.close()
    return found
