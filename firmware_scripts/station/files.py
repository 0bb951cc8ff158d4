"""The texts of a station's files, from what it is and what it serves; the same each time."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files

from fleet.station.line.hotplug import UsbRule

_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)
_RULES = """\
# Serial adapters of the factory line. Install as /etc/udev/rules.d/70-fleet-station.rules, then
#   udevadm control --reload && udevadm trigger --subsystem-match=tty
# Whatever is named here is no modem: ModemManager must not talk to it. /dev/fleet/ names each adapter by
# its place on the hub, so that a lane keeps its name when adapters are changed.
"""
_TTY = (
    'SUBSYSTEM=="tty", SUBSYSTEMS=="usb", ATTRS{{idVendor}}=="{vendor:04x}",'
    ' ATTRS{{idProduct}}=="{product:04x}"{serial}, ENV{{ID_MM_DEVICE_IGNORE}}="1",'
    ' ENV{{ID_MM_PORT_IGNORE}}="1", GROUP="dialout", MODE="0660", SYMLINK+="fleet/$env{{ID_PATH_TAG}}"\n'
)
_LATENCY = """\
# FTDI chips keep bytes back for 16 ms, which is most of the time of a short call.
ACTION=="add|bind", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"
"""
_UNIT = """\
# The factory station {name}. Its certificate and key stand in /var/lib/fleet-station, with its ledger beside.
[Unit]
Description=Factory station {name}
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target

[Service]
User=fleet-station
SupplementaryGroups=dialout
StateDirectory=fleet-station
StateDirectoryMode=0700
WorkingDirectory=/var/lib/fleet-station
ExecStart=/usr/bin/fleet {command}
Restart=always
RestartSec=2
# A line that is stopped ends the visit that it is in; the unit goes on from its ledger at the next start.
TimeoutStopSec=10
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
DevicePolicy=closed
DeviceAllow=char-ttyUSB rw
DeviceAllow=char-ttyACM rw
UMask=0077

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A station on a computer of its own; `more` are further words of `fleet station run`."""

    name: str
    server: str
    usb: tuple[UsbRule, ...]
    more: tuple[str, ...] = ()


def texts(station: Station) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file."""
    yield "70-fleet-station.rules", "".join((_RULES, *map(_rule, station.usb), _LATENCY))
    yield "fleet-station.service", _UNIT.format(name=station.name, command=" ".join(_command(station)))
    for entry in sorted(
        files("fleet.station.telling").joinpath("templates").iterdir(), key=lambda each: each.name
    ):
        yield f"labels/{entry.name}", entry.read_text("utf-8")


def _rule(rule: UsbRule) -> str:
    serial = "" if rule.serial is None else f', ATTRS{{serial}}=="{rule.serial}"'
    return _TTY.format(vendor=rule.vendor, product=rule.product, serial=serial)


def _command(station: Station) -> Iterator[str]:
    own = f"/var/lib/fleet-station/{station.name}"
    yield from ("--server", station.server, "--operator-cert", f"{own}.crt", "--operator-key", f"{own}.key")
    yield from ("--trust", "/var/lib/fleet-station/server.pem", "station", "run", "--headless")
    for rule in station.usb:
        serial = "" if rule.serial is None else f":{rule.serial}"
        yield from ("--usb", f"{rule.vendor:04x}:{rule.product:04x}{serial}")
    yield from plain(station.more)


def plain(words: Iterable[str]) -> Iterator[str]:
    """Yield words that mean the same in a unit file as here; raises ValueError for others."""
    for word in words:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!a} cannot stand in a unit file as it is: use a file or another name")
        yield word.replace("%", "%%")
