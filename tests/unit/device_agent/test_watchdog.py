"""systemd is told that the agent lives while that is true: the loop turns, and the driver comes along."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.background import in_background
from device_agent.notify import notify
from device_agent.signals import Signals
from device_agent.watchdog import LONGEST_ROUND, Pulse, interval_of, ping

INTERVAL = timedelta(milliseconds=2)
PATIENCE = 5.0


@contextmanager
def manager(name: str) -> Iterator[socket.socket]:
    """Listen as systemd does, at a path or in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.settimeout(PATIENCE)
        yield listener


def environment(folder: Path) -> dict[str, str]:
    usec = INTERVAL * 2 // timedelta(microseconds=1)
    return {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(usec)}


def drain(listener: socket.socket) -> None:
    listener.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listener.recv(64)


async def hear(listener: socket.socket) -> bytes:
    return await asyncio.to_thread(listener.recv, 64)


async def test_a_loop_that_turns_is_heard_again_and_again(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listener:
        async with in_background(ping(environment(tmp_path), beats=lambda: True)):
            assert [await hear(listener) for _ in range(3)] == [b"WATCHDOG=1"] * 3


async def test_a_loop_that_hangs_is_not_heard(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listener:
        async with in_background(ping(environment(tmp_path), beats=lambda: True)):
            await hear(listener)
            drain(listener)
            # This very loop hangs now, for many times the interval.
            listener.settimeout(INTERVAL.total_seconds() * 50)
            with pytest.raises(TimeoutError):
                listener.recv(64)
            listener.settimeout(PATIENCE)
            assert await hear(listener) == b"WATCHDOG=1"


async def test_a_driver_that_hangs_in_a_loop_that_turns_is_not_heard_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beats, looked = iter([True, True]), asyncio.Event()

    def hangs_after_two() -> bool:
        beat = next(beats, False)
        if not beat:
            looked.set()
        return beat

    with manager(str(tmp_path / "notify")) as listener:
        async with in_background(ping(environment(tmp_path), beats=hangs_after_two)):
            await looked.wait()
            assert [await hear(listener) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(64)
    assert caplog.text.count("no progress") == 1


def test_a_pulse_beats_while_a_round_or_a_rest_keeps_to_its_time() -> None:
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    now[0] = LONGEST_ROUND.total_seconds() - 1
    assert pulse.beats()
    now[0] += 1
    assert not pulse.beats()
    pulse.rests(timedelta(hours=1))
    now[0] += 3600
    assert pulse.beats()
    now[0] += 60
    assert not pulse.beats()
    pulse.works()
    assert pulse.beats()


async def test_a_driver_that_rests_says_for_how_long() -> None:
    signals, now = Signals(), [0.0]
    signals.pulse = Pulse(lambda: now[0])
    now[0] = LONGEST_ROUND.total_seconds()
    assert not signals.pulse.beats()
    signals.ring()
    await signals.rest(timedelta(hours=1))
    assert signals.pulse.beats()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "4000000"}, timedelta(seconds=2)),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, timedelta(seconds=2)),
    ],
    ids=["not wanted", "off", "no number", "wanted", "of another process", "of this one"],
)
def test_it_is_told_twice_in_the_time_that_is_waited(
    variables: dict[str, str], expected: timedelta | None
) -> None:
    assert interval_of(variables, pid=os.getpid()) == expected


async def test_where_nobody_waits_nothing_is_sent(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listener:
        await ping({"NOTIFY_SOCKET": str(tmp_path / "notify")}, beats=lambda: True)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(64)


def test_a_socket_in_the_abstract_namespace_is_reached() -> None:
    name = f"device-agent-test-{os.getpid()}"
    with manager(f"\0{name}") as listener:
        notify("READY=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert listener.recv(64) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_a_socket_that_is_not_there_stops_nothing(address: str) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": address})
