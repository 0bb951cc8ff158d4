"""The shipped units: they expose no more than they did, and their drop-ins open what they name."""

import json
import re
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "firmware_scripts/linux/files"
UNITS = ("device-agent.service", "device-agent-enroll.service")
DROP_INS = ("tpm.conf", "usb-token.conf")
MOST_EXPOSED = 1.4
"""Of 10, by `systemd-analyze security`: what is left is the network, and asking the kernel's clock."""
_DEVICES = ("PrivateDevices", "DeviceAllow", "PrivateUsers", "SupplementaryGroups")
OPENED = {
    "tpm.conf": {*_DEVICES},
    "usb-token.conf": {*_DEVICES, "RestrictAddressFamilies_AF_NETLINK"},
}


def lines(name: str) -> list[str]:
    return [line for line in (FILES / name).read_text().splitlines() if line and not line.startswith("#")]


def settings(name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines(name) if "=" in line)


def findings(unit: Path) -> dict[str, bool]:
    """Return each thing that systemd looks at, and whether it is closed."""
    command = ["systemd-analyze", "security", "--offline=yes", "--json=short", unit]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {str(one["json_field"]): bool(one["set"]) for one in json.loads(told)}


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_a_unit_exposes_no_more_than_it_did(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", FILES / name]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"exposure level for \S+: ([0-9.]+)", told)
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", DROP_INS)
def test_a_drop_in_opens_what_it_is_for_and_nothing_else(name: str, tmp_path: Path) -> None:
    unit = tmp_path / "device-agent.service"
    unit.write_text((FILES / unit.name).read_text())
    closed = {field for field, is_closed in findings(unit).items() if is_closed}
    service = unit.read_text().replace("[Install]", "\n".join(lines(name)[1:]) + "\n\n[Install]")
    unit.write_text(service)
    assert closed - {field for field, is_closed in findings(unit).items() if is_closed} == OPENED[name]


def test_both_units_have_the_same_sandbox() -> None:
    own = {
        *("Type", "ExecStart", "Restart", "RestartSec", "Description", "After", "ConditionPathExists"),
        *("NotifyAccess", "WatchdogSec", "LoadCredential", "RuntimeDirectory", "RuntimeDirectoryMode"),
    }
    run, enroll = ([line for line in lines(name) if line.partition("=")[0] not in own] for name in UNITS)
    assert run == enroll


def test_the_agent_is_watched_and_no_root() -> None:
    found = settings("device-agent.service")
    assert (found["Type"], found["NotifyAccess"], found["WatchdogSec"]) == ("notify", "main", "5min")
    assert found["User"] == "device-agent"


def test_an_image_without_packages_gets_the_user_that_the_units_name() -> None:
    assert lines("device-agent.sysusers") == ['u device-agent - "Device agent" /var/lib/device-agent']
