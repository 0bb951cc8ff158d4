"""Reads the channels to people, `[notice.channels.NAME]`, out of `fleet.toml`: mail, webhook, MQTT, file.

It holds no secret: passwords and keys of channels stand in files that only their owner can read.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from fleet.toml_section import Section

_ADDRESS = re.compile(
    r"(?=.{3,254}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    re.ASCII,
)
_URL = re.compile(r"https://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(/[\x21-\x7e]{0,1024})?")
_TOPIC = "fleet/v1/notifications/"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_LONGEST_PATH = 1024


class ChannelKind(StrEnum):
    """How a channel reaches people."""

    MAIL = "mail"
    WEBHOOK = "webhook"
    MQTT = "mqtt"
    FILE = "file"


class MailSecurity(StrEnum):
    """How mail is kept from others on its way to the first mail server."""

    STARTTLS = "starttls"
    """RFC 3207; a server that does not offer it gets no mail."""
    TLS = "tls"
    """From the first byte on (RFC 8314)."""
    NONE = "none"
    """In the clear; only to hosts that `private_hosts` names, and without a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailConfig:
    """A mail server that takes our mail."""

    name: str
    host: str
    sender: str
    port: int = 587
    security: MailSecurity = MailSecurity.STARTTLS
    user: str = ""
    password_file: Path | None = None
    trust: Path | None = None
    """Roots of its certificate, PEM; None takes the system's."""
    private_hosts: tuple[str, ...] = ()
    """Names whose addresses may be loopback or private."""
    timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookConfig:
    """A service that takes notifications by HTTPS."""

    name: str
    url: str
    secret_file: Path
    trust: Path | None = None
    private_hosts: tuple[str, ...] = ()
    timeout: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """Topics at our own broker, one a matter, below `fleet/v1/notifications/`."""

    name: str

    @property
    def prefix(self) -> str:
        return _TOPIC


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConfig:
    """A file to which each notification is one line; relative to the fleet home."""

    name: str
    path: Path


ChannelConfig: TypeAlias = MailConfig | HookConfig | TopicConfig | FileConfig


def is_mail_address(text: str) -> bool:
    """Tell whether a text is a plain mail address, in ASCII: nothing that a header could grow from."""
    return _ADDRESS.fullmatch(text) is not None


def read_channel(section: Section, name: str) -> ChannelConfig:
    """Read one channel; raises `BadInputError`."""
    if not _NAME.fullmatch(name):
        raise section.error(None, "a channel's name is of a-z, 0-9 and -", hint="[notice.channels.mail]")
    if "kind" not in section.names():
        raise section.error("kind", "the channel has no kind", hint=f"one of {', '.join(ChannelKind)}")
    match section.word("kind", ChannelKind.FILE, words=ChannelKind):
        case ChannelKind.MAIL:
            found: ChannelConfig = _mail(section, name)
        case ChannelKind.WEBHOOK:
            found = _hook(section, name)
        case ChannelKind.MQTT:
            found = TopicConfig(name=name)
        case ChannelKind.FILE:
            found = FileConfig(name=name, path=_path(section, "path", "notices.jsonl"))
    section.close()
    return found


def _mail(section: Section, name: str) -> MailConfig:
    found = MailConfig(
        name=name,
        host=section.host("host", ""),
        sender=section.text("sender", "", longest=254),
        port=section.integer("port", 587, bounds=(1, 65535)),
        security=section.word("security", MailSecurity.STARTTLS, words=MailSecurity),
        user=section.text("user", "", longest=254),
        password_file=_path_or_none(section, "password_file"),
        trust=_path_or_none(section, "trust"),
        private_hosts=section.texts("private_hosts", (), most=16),
        timeout=timedelta(seconds=section.integer("timeout_seconds", 60, bounds=(1, 600))),
    )
    if not found.host:
        raise section.error("host", "the mail server has no host", hint='such as host = "mail.example.org"')
    if not is_mail_address(found.sender):
        raise section.error("sender", "sender must be a mail address", hint='such as "fleet@example.org"')
    if bool(found.user) is not (found.password_file is not None):
        raise section.error("user", "user and password_file come together", hint="name both, or neither")
    if found.security is MailSecurity.NONE and (found.user or found.host not in found.private_hosts):
        text = "mail in the clear goes to hosts in private_hosts alone, without a password"
        raise section.error("security", text, hint='security = "starttls"')
    return found


def _hook(section: Section, name: str) -> HookConfig:
    url = section.text("url", "", longest=1024)
    if not _URL.fullmatch(url):
        raise section.error("url", "url must be https://HOST[:PORT]/PATH", hint="plain http is not asked")
    return HookConfig(
        name=name,
        url=url,
        secret_file=_path(section, "secret_file", f"{name}.secret"),
        trust=_path_or_none(section, "trust"),
        private_hosts=section.texts("private_hosts", (), most=16),
        timeout=timedelta(seconds=section.integer("timeout_seconds", 10, bounds=(1, 60))),
    )


def _path(section: Section, name: str, example: str) -> Path:
    found = _path_or_none(section, name)
    if found is None:
        raise section.error(name, f"{name} must name a file", hint=f'such as {name} = "{example}"')
    return found


def _path_or_none(section: Section, name: str) -> Path | None:
    text = section.text(name, "", longest=_LONGEST_PATH)
    return Path(text) if text else None
