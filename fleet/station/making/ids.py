"""Which device id a unit gets: the first rule that answers, and an id never goes to two units."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from device_agent.wire.identity import parse_device_id
from device_agent.wire.objects import parse_hardware_id
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError, RefusedError
from fleet.station.keeping.ledger import Ledger

_MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRule:
    """How ids are given to units that the ledger does not know yet.

    With `listed`, only units on the list are taken. Else the id that the unit asks for counts, else
    `prefix` and the next number of four digits.
    """

    listed: Mapping[str, str] | None = None
    prefix: str | None = None

    def __post_init__(self) -> None:
        try:
            parse_device_id(f"{self.prefix or ''}0001")
        except MalformedMessageError as error:
            raise BadInputError("the prefix and a number make no device id") from error

    @classmethod
    def from_list(cls, path: Path) -> Self:
        """Read a CSV file of `hardware_id,device_id` rows, with or without that first line.

        Raises:
            BadInputError: a row is not right; the message names its line.
        """
        try:
            rows = list(csv.reader(path.read_text("utf-8").splitlines()[:_MOST_ROWS]))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BadInputError(f"cannot read the list of ids {path}") from error
        listed: dict[str, str] = {}
        for number, row in enumerate(rows, start=1):
            if row and not (number == 1 and row == ["hardware_id", "device_id"]):
                _add(listed, row, where=f"{path}:{number}")
        return cls(listed=listed)

    def takes(self, hardware_id: str) -> bool:
        """Tell whether a unit is one of those that are made here."""
        return self.listed is None or hardware_id in self.listed

    def counted(self, wish: str) -> str:
        """Return the prefix under which the id of a unit with this wish is counted; empty where it is not."""
        return "" if self.listed is not None or wish else self.prefix or ""

    async def next(self, prefix: str, ledger: Ledger) -> str:
        """Return the next id of a prefix that is no unit's here."""
        while True:
            device_id = parse_device_id(f"{prefix}{await ledger.next_number(prefix):04d}")
            if await ledger.owner_of(device_id) is None:
                return device_id

    async def choose(self, hardware_id: str, *, wish: str, ledger: Ledger) -> str:
        """Return the id for a unit that has none; `wish` is what it asks for, or empty.

        Raises:
            RefusedError: no rule gives it one.
        """
        if self.listed is not None:
            if hardware_id not in self.listed:
                raise RefusedError("it is not on the list of ids", hint="add its hardware id to the list")
            return self.listed[hardware_id]
        if wish:
            return wish
        if self.prefix is None:
            raise RefusedError("no rule gives it an id", hint="start the station with a prefix or a list")
        return await self.next(self.prefix, ledger)


def _add(listed: dict[str, str], row: list[str], *, where: str) -> None:
    try:
        hardware_id, device_id = row
        hardware_id, device_id = parse_hardware_id(hardware_id.strip()), parse_device_id(device_id.strip())
    except (ValueError, MalformedMessageError) as error:
        raise BadInputError(f"{where}: must be <hardware id>,<device id>") from error
    if hardware_id in listed or device_id in listed.values():
        raise BadInputError(f"{where}: names a unit or an id a second time")
    listed[hardware_id] = device_id
