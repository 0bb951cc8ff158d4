"""Patterns of the further dNSNames that a profile gives, such as `{id}.gateways.example.org`.

A device's own name, by which it is told from others, is never made here, and no pattern can make another's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from device_agent.wire.identity import Identity, dns_label, dns_name
from device_agent.wire.problems import ProblemCode
from fleet.errors import RefusedError

_LONGEST_NAME = 253  # RFC 1035 2.3.4, as text
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_PLACE = re.compile(r"\{([a-z]+(?:\.[A-Za-z0-9_.-]{1,64})?)\}", re.ASCII)
_PLACES = ("id", "domain", "fleet", "batch", "hardware")
_ATTRIBUTE = "attribute."


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a pattern can speak of, as our records know it."""

    identity: Identity
    fleet: str
    batch: str = ""
    hardware: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    """What somebody else than the device said of it, by name."""

    @property
    def own_name(self) -> str:
        return dns_name(self.identity, fleet=self.fleet)

    def places(self) -> Mapping[str, str]:
        """Return the text of each place in a pattern."""
        return {
            "id": dns_label(self.identity.device_id),
            "domain": self.identity.domain,
            "fleet": self.fleet,
            "batch": self.batch,
            "hardware": self.hardware,
            **{f"{_ATTRIBUTE}{name}": value for name, value in self.attributes},
        }


def attributes_named(patterns: Iterable[str]) -> frozenset[str]:
    """Return the attributes that names are made of by some patterns."""
    places = (place for pattern in patterns for place in _PLACE.findall(pattern))
    return frozenset(place.removeprefix(_ATTRIBUTE) for place in places if place.startswith(_ATTRIBUTE))


def fault_of(pattern: str, *, fleet: str) -> str | None:
    """Return what is wrong with a pattern, in a fleet of this name; None if nothing is."""
    places = set(_PLACE.findall(pattern))
    attributes = {place for place in places if place.startswith(_ATTRIBUTE)}
    if unknown := sorted(places - attributes - set(_PLACES)):
        known = ", ".join(f"{{{place}}}" for place in (*_PLACES, f"{_ATTRIBUTE}NAME"))
        return f"knows no {{{unknown[0]}}}: there are {known}"
    sample = Subject(
        identity=Identity(domain="domain", device_id="id"),
        fleet=fleet,
        batch="batch",
        hardware="hardware",
        attributes=tuple((place.removeprefix(_ATTRIBUTE), "value") for place in sorted(attributes)),
    )
    if "{id}" not in pattern:
        return "must hold {id}: else all devices had this name"
    try:
        expand(pattern, sample)
    except RefusedError as error:
        return str(error)
    return None


def expand(pattern: str, subject: Subject) -> str:
    """Return the dNSName that a pattern gives a device.

    Raises:
        RefusedError: the device has not what the pattern speaks of, or the name could be another's.
    """
    places = subject.places()
    name = _PLACE.sub(lambda place: places.get(place[1], ""), pattern)
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _refusal(f"{pattern} is no host name for {subject.identity.name}")
    if "." not in name:
        raise _refusal(f"{pattern} is a single label, which is nobody's name for long")
    if not is_free(name, own=subject.own_name, fleet=subject.fleet):
        raise _refusal(f"{pattern} is in the fleet's own name space, below the device's own name it may be")
    return name


def is_free(name: str, *, own: str, fleet: str) -> bool:
    """Tell whether a name can be nobody else's of this fleet: it is outside, or below the device's own."""
    is_inside = name == fleet or name.endswith(f".{fleet}")
    return not is_inside or name.endswith(f".{own}")


def _refusal(message: str) -> RefusedError:
    return RefusedError(message, hint="fleet profile show", code=ProblemCode.BAD_IDENTITY)
