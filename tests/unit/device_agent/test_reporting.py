"""Settings of the server change how often a device speaks, and nothing else."""

from datetime import timedelta

import pytest

from device_agent import reporting
from device_agent.reporting import Reporting
from device_agent.signals import Signals
from device_agent.wire.configuration import AgentConfiguration, NumberedConfiguration


class Asked:
    """Counts the reports that it is asked for."""

    def __init__(self) -> None:
        self.reports = 0

    async def report(self) -> None:
        self.reports += 1


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [0.0]
    monkeypatch.setattr(reporting, "monotonic", lambda: found[0])
    return found


def configured(**settings: int) -> NumberedConfiguration:
    return NumberedConfiguration(number=7, settings=AgentConfiguration(**settings))


async def test_new_settings_are_told_once(seconds: list[float]) -> None:
    signals, asked = Signals(), Asked()
    device = Reporting(asked, signals)  # type: ignore[arg-type]  # the one method that it uses
    await device.tell()
    assert asked.reports == 0
    signals.configuration = configured(longest_wait_seconds=600)
    await device.tell()
    seconds[0] += 10_000
    await device.tell()
    assert asked.reports == 1


async def test_the_state_is_told_as_often_as_the_server_wants_to_hear_it(seconds: list[float]) -> None:
    signals, asked = Signals(), Asked()
    signals.configuration = configured(report_seconds=60)
    device = Reporting(asked, signals)  # type: ignore[arg-type]  # the one method that it uses
    for _ in range(4):
        await device.tell()
        seconds[0] += 30
    assert asked.reports == 2
    assert device.longest_rest == timedelta(seconds=60)


def test_without_settings_nothing_is_changed() -> None:
    device = Reporting(Asked(), Signals())  # type: ignore[arg-type]  # the one method that it uses
    assert (device.longest_rest, device.longest_wait) == (timedelta(hours=1), timedelta(hours=1))
