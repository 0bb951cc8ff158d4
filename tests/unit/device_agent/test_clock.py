"""The clocks of a machine and the file of the floor: what outlives a restart, and how often it is written."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.clock import CLOCK, DeviceClock, elapsed, forget_floor, looked
from device_agent.core import floor
from device_agent.core.clock import TimeSource
from device_agent.core.stored import StoredRecord
from device_agent.errors import UntrustedTimeError
from device_agent.kernel_clock import is_synchronised
from device_agent.released import RELEASED
from device_agent.wire.fields import time_text
from device_agent.wire.problems import MalformedMessageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOLD = RELEASED + timedelta(days=400)
DAY = timedelta(days=1)


class Machine:
    """A machine whose clocks go as a test wants."""

    def __init__(self, folder: Path, *, system: datetime = EPOCH) -> None:
        self.folder, self.system, self.elapsed = folder, system, timedelta(seconds=20)

    def boot(self) -> DeviceClock:
        return DeviceClock(
            self.folder,
            system=lambda: self.system,
            elapsed=lambda: self.elapsed,
            is_synchronised=lambda _system: False,
        )

    def wait(self, length: timedelta) -> None:
        self.system += length
        self.elapsed += length


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_in_1970_begins_where_its_program_was_made(machine: Machine) -> None:
    found = machine.boot().moment()
    assert (found.now, found.source) == (RELEASED, TimeSource.FLOOR)


def test_a_signed_time_goes_on_with_the_boot_clock(machine: Machine) -> None:
    clock = machine.boot()
    clock.hear(TOLD)
    machine.wait(DAY / 2)
    assert (clock(), clock.moment().source) == (TOLD + DAY / 2, TimeSource.SIGNED)


def test_a_signed_time_is_the_floor_after_a_restart(machine: Machine) -> None:
    machine.boot().hear(TOLD)
    machine.elapsed = timedelta()
    assert machine.boot()() == TOLD


def test_the_floor_that_was_kept_refuses_an_older_signed_time(machine: Machine) -> None:
    machine.boot().hear(TOLD)
    with pytest.raises(UntrustedTimeError):
        machine.boot().hear(TOLD - DAY)


def test_the_floor_is_written_once_a_day_at_most(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr("device_agent.clock.write_file", lambda _path, content: written.append(content))
    clock = machine.boot()
    for hour in range(48):
        clock.hear(TOLD + timedelta(hours=hour))
    assert written == [floor.encode(TOLD), floor.encode(TOLD + DAY)]


def test_a_damaged_file_is_no_floor(machine: Machine) -> None:
    (machine.folder / CLOCK).write_bytes(floor.encode(TOLD).replace(b"-", b"9", 1))
    assert machine.boot()() == RELEASED


def test_a_disk_that_is_full_costs_the_memory_of_the_time_and_not_the_time(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    clock = machine.boot()
    machine.folder.rmdir()
    clock.hear(TOLD)
    assert clock() == TOLD
    assert "not known after a restart" in caplog.text


def test_a_factory_reset_forgets_the_time(machine: Machine) -> None:
    machine.boot().hear(TOLD)
    forget_floor(machine.folder)
    assert list(machine.folder.iterdir()) == []


def test_the_server_is_asked_at_the_start_and_then_once_a_day(machine: Machine) -> None:
    clock = machine.boot()
    due = [clock.is_due()]
    clock.hear(TOLD)
    due.append(clock.is_due())
    machine.wait(DAY)
    due.append(clock.is_due())
    assert due == [True, False, True]


def test_a_clock_that_is_not_believed_is_told_once_and_again_when_it_is(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = machine.boot()
    clock.moment()
    clock.moment()
    machine.system = RELEASED + DAY
    clock.moment()
    unknown = (
        "the system's clock, 1970-01-01T00:00:00Z, is not believed;"
        f" by all that is known it is {RELEASED:%Y-%m-%d %H:%M}Z at least"
    )
    again = f"the system's clock is believed again, {time_text(RELEASED + DAY)}"
    assert [record.message for record in caplog.records] == [unknown, again]


def test_nothing_is_told_of_a_clock_that_nothing_speaks_against(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """No NTP has vouched for it, as in every container; a signed time that disagrees is told."""
    caplog.set_level(logging.INFO)
    machine.system = TOLD
    clock = machine.boot()
    assert clock.moment().source is TimeSource.FLOOR
    assert caplog.records == []

    clock.hear(RELEASED + 10 * DAY)
    clock.moment()
    (told,) = caplog.records
    assert "is not believed" in told.message


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    looked(tmp_path, StoredRecord())
    assert list(tmp_path.iterdir()) == []


def test_a_time_that_is_not_the_kernels_own_is_not_kept_right_by_it() -> None:
    assert not is_synchronised(EPOCH)
    assert not is_synchronised(datetime.now(UTC) + timedelta(days=365))


def test_the_boot_clock_of_this_machine_goes_forward() -> None:
    assert timedelta() < elapsed() <= elapsed()


@given(st.datetimes(RELEASED.replace(tzinfo=None), timezones=st.just(UTC)))
def test_every_floor_is_read_back_to_the_second(moment: datetime) -> None:
    assert floor.decode(floor.encode(moment)) == moment.replace(microsecond=0)


@given(st.binary(max_size=300))
def test_what_is_no_floor_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        floor.decode(content)
