"""What Prometheus is shown: to whom, what is counted, and rules and a dashboard that fit it."""

import json
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from device_agent.wire.replies import Problem
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.core.causes import Cause
from fleet.core.history import contact
from fleet.model import BrokerEventKind, RevocationReason
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home

REFUSAL = contact(kind=BrokerEventKind.REFUSED, place="mosquitto", at=datetime.now(UTC), cause=Cause.EXPIRED)
MONITORING = Path(__file__).parents[2] / "docs/how-to/monitoring"
NAMES = re.compile(r"\bfleet_[a-z_]+")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("homes") / "home", driver="embedded")
    config = made.home.config
    config.write_text(config.read_text().replace("[broker]", "metrics_port = 0\n[broker]"))
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def page(fleet: LiveFleet) -> str:
    """Return the page, as whoever is on this machine reads it."""
    where = f"http://127.0.0.1:{fleet.context.endpoints.metrics_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(where) as response:
        assert response.status == HTTPStatus.OK
        return await response.text()


def values(text: str) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and the values of its labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


async def test_a_life_is_counted(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("d1")
    stranger, _ = await fleet.proof_for("d2")
    assert isinstance(
        await stranger.enroll(Proof(kind=ProofKind.CODE, code=Secret("AAAA-BBBB-CCCC-DDDD"))), Problem
    )
    await revoke(
        fleet.context,
        ByDevice(identities=(device.identity,)),
        reason=RevocationReason.KEY_COMPROMISE,
        actor="operator:test",
    )

    shown = values(await page(fleet))

    assert shown["fleet_requests_total", "enroll", "ok"] == 1
    assert shown["fleet_requests_total", "enroll", "code-invalid"] == 1
    assert shown["fleet_requests_total", "confirm", "ok"] == 1
    assert shown["fleet_request_seconds_count", "enroll"] == 2
    assert shown["fleet_revocation_cut_off_seconds_count",] == 1
    assert shown["fleet_serving",] == 1
    assert shown["fleet_notifications_outstanding", "waiting"] == 0


async def test_the_page_over_https_is_for_operators(fleet: LiveFleet) -> None:
    async with fleet.https() as anybody, anybody.get("/metrics") as response:
        assert response.status == HTTPStatus.UNAUTHORIZED
    device = await fleet.enrolled("d3")
    async with fleet.https(device) as session, session.get("/metrics") as response:
        assert response.status == HTTPStatus.FORBIDDEN
    async with fleet.admin() as owner, owner.get("/metrics") as response:
        assert values(await response.text())["fleet_serving",] == 1


async def test_no_label_names_a_device(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("d4")
    assert device.issued is not None
    text = await page(fleet)
    assert "d4" not in text
    assert device.issued.serial not in text


@pytest.mark.needs("promtool")
async def test_promtool_finds_no_fault_in_the_page(fleet: LiveFleet) -> None:
    command = ["promtool", "check", "metrics"]
    text = (await page(fleet)).encode()
    checked = subprocess.run(command, input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr.decode()) == (0, "")


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_finds_no_fault_in_the_rules(command: list[str]) -> None:
    checked = subprocess.run(
        ["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_refused_connections_are_counted_by_place_and_cause(fleet: LiveFleet) -> None:
    for expected in (1, 2):
        fleet.context.history.note(REFUSAL)
        counted = values(await page(fleet))
        assert counted["fleet_connections_refused_total", "expired", "mosquitto"] == expected


async def test_rules_and_dashboard_name_only_what_is_shown(fleet: LiveFleet) -> None:
    await fleet.enrolled("d5")
    fleet.context.history.note(REFUSAL)
    shown = {name for name, *_ in values(await page(fleet))}
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += re.findall(r"expr: (.*)", (MONITORING / "alerts.yml").read_text())
    assert len(asked) >= 20
    assert {name for text in asked for name in NAMES.findall(text)} <= shown
