"""Where the identities of one device are: its own in the state folder, one for each further domain below it.

STATE/                       a state folder, as ever
STATE/identities/DOMAIN/     another whole one: record, lock, keys, clock, current/, agent.sock
"""

import contextlib
from pathlib import Path

from device_agent.errors import BadInputError
from device_agent.files import make_folder, state_error
from device_agent.store import PREVIOUS, RECORD
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError

OWN = ""
"""The name of a device's own identity, that of its state folder."""

_IDENTITIES = "identities"


def folder_of(state: Path, identity: str) -> Path:
    """Return the state folder of an identity: the device's own, or the one for a further domain.

    Raises:
        BadInputError: the name is no domain's.
    """
    if identity == OWN:
        return state
    try:
        return state / _IDENTITIES / parse_domain(identity)
    except MalformedMessageError as error:
        raise BadInputError(f"identity: {error}", hint="--identity lab, named as its domain") from error


def domain_of(folder: Path) -> str | None:
    """Return the one domain that a state folder is for; None where it may be any."""
    place = folder.absolute()
    return place.name if place.parent.name == _IDENTITIES else None


def make_place(folder: Path) -> None:
    """Make what stands above the state folder of a further identity; raises `StateError`."""
    if domain_of(folder) is not None:
        make_folder(folder.parent.parent)
        make_folder(folder.parent)


def identities_in(state: Path) -> tuple[str, ...]:
    """Return the further domains that a device has, or is getting, an identity in; raises `StateError`."""
    found: list[str] = []
    try:
        folders = sorted((state / _IDENTITIES).glob("*/"))
    except OSError as error:
        raise state_error(f"cannot look into {state}", error) from error
    for folder in folders:
        if (folder / RECORD).exists() or (folder / PREVIOUS).exists():
            with contextlib.suppress(MalformedMessageError):
                found.append(parse_domain(folder.name))
    return tuple(found)
