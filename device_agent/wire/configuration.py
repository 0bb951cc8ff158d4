"""Settings of an agent that its server may change, as they stand in a notice; each is numbered as a whole.

They say how often a device speaks, and nothing about keys, trust or addresses: a server that is not the
device's own could not lead it astray by them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from device_agent.wire.fields import Fields

MAX_NUMBER = 2**31 - 1
BOUNDS: Mapping[str, tuple[int, int]] = {
    "longest_wait_seconds": (60, 86_400),
    "report_seconds": (60, 604_800),
}
"""Each setting, and the lowest and highest value that a device takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfiguration:
    """What is not given stays as the agent was started with."""

    longest_wait_seconds: int | None = None
    """The most that is waited between two attempts that fail."""
    report_seconds: int | None = None
    """The state is told so often, even where nothing is new."""

    def members(self) -> dict[str, object]:
        """Return what is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the settings; what this agent does not know is passed over.

        Raises:
            MalformedMessageError: one is out of its bounds.
        """
        return cls(
            **{
                name: fields.integer(name, lowest=lowest, highest=highest)
                for name, (lowest, highest) in BOUNDS.items()
                if name in fields
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedConfiguration:
    """Settings with the number by which a device tells that it has them; a lower one is out of date."""

    number: int
    settings: AgentConfiguration = field(default_factory=AgentConfiguration)

    def members(self) -> dict[str, object]:
        return {"number": self.number} | self.settings.members()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            number=fields.integer("number", lowest=1, highest=MAX_NUMBER),
            settings=AgentConfiguration.read(fields),
        )
