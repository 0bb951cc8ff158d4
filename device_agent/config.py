"""What an agent is told at its start; frozen, with defaults that a device can live with for ten years."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from device_agent.channels.mqtt import MqttOptions
from device_agent.errors import BadInputError
from device_agent.wire.problems import MalformedMessageError

_MACHINE_ID = Path("/etc/machine-id")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_LONGEST_MODEL = 64


class Connection(StrEnum):
    """Who holds the device's one MQTT connection."""

    OWN = "own"
    """This agent."""
    LENT = "lent"
    """Another program, by `current/`; the agent asks over HTTPS alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one agent works."""

    state: Path
    """The state folder; made where there is none."""
    hardware_id: str = ""
    """How a station knows this unit; empty takes the machine's own id."""
    model: str = "device-agent"
    key_place: str = ""
    """Where keys are to live, `file:` or a PKCS#11 URI (RFC 7512); empty leaves it as it is."""
    hooks: Path | None = None
    """What is run after each change of the identity; None is `post-renew.d` in the state folder."""
    connection: Connection = Connection.OWN
    share: Path | None = None
    """Where other programs publish and subscribe over the agent's connection, a socket; None: nowhere."""
    signer: Path | None = None
    """Where the key is lent for signing, a socket; None lends it to nobody."""
    mqtt: MqttOptions = field(default_factory=MqttOptions)
    patience: timedelta = timedelta(seconds=60)
    """How long `enroll` tries again where that can help."""
    first_wait: timedelta = timedelta(seconds=5)
    """The most that is waited after a first failure; it doubles with each more."""

    @property
    def hook_folder(self) -> Path:
        """Where the hooks are; it need not be there."""
        return self.hooks or self.state / "post-renew.d"

    @property
    def socket(self) -> Path:
        """Where a running agent is asked."""
        return self.state / "agent.sock"


def hardware_id(settings: Settings) -> str:
    """Return the hardware id that is set, else the machine id (machine-id(5)).

    Raises:
        BadInputError: there is neither, or it is none.
    """
    from device_agent.wire.objects import parse_hardware_id  # noqa: PLC0415 - only the factory link needs it

    try:
        return parse_hardware_id(settings.hardware_id or _MACHINE_ID.read_text().strip())
    except (OSError, MalformedMessageError) as error:
        raise BadInputError(
            "this machine has no id that a station could know it by", hint="give it with --hardware-id"
        ) from error


def model(settings: Settings) -> str:
    """Return the model as the factory link may carry it."""
    return _NOT_PRINTABLE.sub("?", settings.model)[:_LONGEST_MODEL]
