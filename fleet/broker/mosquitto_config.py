"""Writes mosquitto.conf: two TLS listeners, the guard, and nothing that is open.

Every line is ours; a path that could break out of its line is refused.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from fleet.broker.settings import BrokerFiles, Listeners
from fleet.errors import BadInputError

LARGEST_MESSAGE = 1024 * 1024
"""Bytes; a whole change of the allowlist fits, a device's body (64 KiB) all the more."""

MOST_QUEUED_BYTES = 64 * 1024 * 1024
"""For each client that is slow or away; 100,000 events of the guard fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The files of one Mosquitto in the driver's folder."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def log(self) -> Path:
        return self.folder / "mosquitto.log"

    @property
    def pid(self) -> Path:
        return self.folder / "mosquitto.pid"

    @property
    def state(self) -> Path:
        return self.folder / "mosquitto.json"

    @property
    def messages(self) -> Path:
        return self.folder / "messages"

    @property
    def rules(self) -> Path:
        return self.folder / "rules"

    @property
    def operational_trust(self) -> Path:
        """The roots of the operational listener, and the CAs that were adopted."""
        return self.folder / "operational.ca.pem"

    @property
    def operational_crl(self) -> Path:
        return self.folder / "operational.crl.pem"

    @property
    def bootstrap_crl(self) -> Path:
        return self.folder / "bootstrap.crl.pem"


def config_text(files: BrokerFiles, listeners: Listeners, *, guard: Path, alarm_after_s: int) -> str:
    """Return the configuration of Mosquitto 2.0 or later.

    Raises:
        BadInputError: a path or an address holds what a line of it cannot.
    """
    paths = Paths(folder=files.folder)
    lines = [
        *_general(paths, alarm_after_s=alarm_after_s, guard=guard),
        *_listener(files, listeners.operational_port, listeners.bind),
        f"cafile {_one(paths.operational_trust)}",
        f"crlfile {_one(paths.operational_crl)}",
        *_listener(files, listeners.bootstrap_port, listeners.bind),
        f"cafile {_one(files.bootstrap_roots)}",
        f"crlfile {_one(paths.bootstrap_crl)}",
    ]
    return "\n".join(["# Written by fleet; it is replaced at every start.", *lines, ""])


def _general(paths: Paths, *, alarm_after_s: int, guard: Path) -> list[str]:
    return [
        # One guard for both listeners: its timer runs only so (Mosquitto 2.0, plugin.c).
        "per_listener_settings false",
        *_user(),
        f"pid_file {_one(paths.pid)}",
        f"log_dest file {_one(paths.log)}",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "persistence true",
        f"persistence_location {_one(paths.messages)}/",
        "autosave_interval 60",
        "persistent_client_expiration 90d",
        "allow_anonymous false",
        "allow_zero_length_clientid false",
        # Without it a TLS 1.3 connect waits for a delayed acknowledgement, 40 ms and more.
        "set_tcp_nodelay true",
        # The default of 1000 drops a burst that was acknowledged to its senders.
        "max_queued_messages 100000",
        # And none may fill our memory by not reading what it sends to itself.
        f"max_queued_bytes {MOST_QUEUED_BYTES}",
        "max_inflight_messages 256",
        f"max_packet_size {LARGEST_MESSAGE + 4096}",
        f"plugin {_one(guard)}",
        f"plugin_opt_rules {_one(paths.rules)}",
        f"plugin_opt_list {_one(paths.folder / 'allowlist')}",
        f"plugin_opt_journal {_one(paths.folder / 'allowlist.journal')}",
        f"plugin_opt_alarm_after {alarm_after_s}",
    ]


def _user() -> list[str]:
    """Keep our own user: the home's files are ours. Only root would change it, and root has a name."""
    try:
        return [f"user {pwd.getpwuid(os.geteuid()).pw_name}"]
    except KeyError:
        return []


def _listener(files: BrokerFiles, port: int, bind: str) -> list[str]:
    return [
        f"listener {port} {_one(bind)}",
        "protocol mqtt",
        f"certfile {_one(files.certificate)}",
        f"keyfile {_one(files.key)}",
        "require_certificate true",
        "tls_version tlsv1.2",
    ]


def _one(value: Path | str) -> str:
    text = str(value)
    if not text.isprintable() or text != text.strip() or not text:
        raise BadInputError(
            f"mosquitto.conf cannot name {text!r}", hint="move the fleet home to a plain path"
        )
    return text
