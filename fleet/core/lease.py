"""A lease: what a station may sign off line, as its server signed it. Both sides read it with this module.

It holds all that a station needs to serve a unit without its server: where the unit finds its broker, which
roots it holds, and the station's CA. It grants numbers, never names of other stations.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import HttpsAddress
from fleet.core.station_rules import MOST_UNITS

MAX_LEASE_BYTES = 48 * 1024
MOST_DAYS = 90
CLOCK_MARGIN = timedelta(minutes=5)
_SIGNED = b"fleet-lease-v1\0"
_LONGEST_DER = 4096
_MOST_ANCHORS = 8
_VERSION = 1


class Refusal(StrEnum):
    """Why a lease cannot be used now; each is a sentence about it."""

    EXPIRED = "has expired"
    NOT_YET = "is not valid yet by the station's clock: is that behind"
    SPENT = "has no number left"
    CLOCK_WENT_BACK = "cannot be used: the station's clock is behind what this station has seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """`count` numbers from `first`, for units of a batch, until `not_after`, under one CA of the station."""

    lease: str
    """Its name, 32 hex: the serial of the station's CA."""
    fleet: str
    domain: str
    station: str
    batch: str
    first: int
    count: int
    issued_at: datetime
    not_after: datetime
    authority: bytes
    """The certificate of the station's CA, DER."""
    anchors: tuple[bytes, ...]
    """What units hold as anchors of their domain, DER; the root above the station's CA is the last one."""
    broker_host: str
    broker_port: int
    recovery: HttpsAddress

    @property
    def last(self) -> int:
        """The last number."""
        return self.first + self.count - 1

    def encode(self) -> bytes:
        """Return the lease as bytes, always the same for the same lease."""
        members = {
            "v": _VERSION,
            "lease": self.lease,
            "fleet": self.fleet,
            "domain": self.domain,
            "station": self.station,
            "batch": self.batch,
            "first": self.first,
            "count": self.count,
            "issued_at": time_text(self.issued_at),
            "not_after": time_text(self.not_after),
            "authority": _text(self.authority),
            "anchors": [_text(one) for one in self.anchors],
            "broker": {"host": self.broker_host, "port": self.broker_port},
            "recovery": {"host": self.recovery.host, "port": self.recovery.port},
        }
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()

    def refusal(self, *, now: datetime, floor: datetime, next_number: int) -> Refusal | None:
        """Return why the next number cannot be used; None where it can.

        `floor` is the latest time that the station knows to be over, by signatures and by its own journal: a
        clock that was set back does not make a lease longer.
        """
        if next_number > self.last:
            return Refusal.SPENT
        if now < floor - CLOCK_MARGIN:
            return Refusal.CLOCK_WENT_BACK
        if max(now, floor) >= self.not_after:
            return Refusal.EXPIRED
        if now < self.issued_at - CLOCK_MARGIN:
            return Refusal.NOT_YET
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedLease:
    """A lease's bytes as they were signed, and the signature of the CA that certified the station."""

    octets: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Return the file that a station is handed."""
        return json.dumps({"lease": self.octets.decode("ascii"), "signature": _text(self.signature)}).encode()


def signed_text(octets: bytes) -> bytes:
    """Return what is signed of a lease: no certificate or list begins so."""
    return _SIGNED + octets


def parse_signed(content: bytes) -> SignedLease:
    """Return what a lease's file holds. Raises `MalformedMessageError`."""
    members = parse_object(content)
    octets = members.any_text("lease", longest=MAX_LEASE_BYTES)
    if not octets.isascii():
        raise MalformedMessageError("a lease is ASCII")
    return SignedLease(octets=octets.encode("ascii"), signature=members.base64("signature", longest=600))


def parse_lease(octets: bytes) -> Lease:
    """Return the lease that bytes hold.

    Raises:
        MalformedMessageError: they hold none, or one that is written otherwise than `encode` does.
    """
    members = parse_object(octets)
    members.integer("v", lowest=_VERSION, highest=_VERSION)
    broker, recovery = members.object("broker"), members.object("recovery")
    lease = Lease(
        lease=members.serial("lease"),
        **{name: parse_domain(members.text(name, longest=32)) for name in _NAMES},
        first=members.integer("first", lowest=1, highest=2**31),
        count=members.integer("count", lowest=1, highest=MOST_UNITS),
        issued_at=members.time("issued_at"),
        not_after=members.time("not_after"),
        authority=members.base64("authority", longest=_LONGEST_DER),
        anchors=_anchors(members),
        broker_host=broker.text("host", longest=253),
        broker_port=broker.integer("port", lowest=0, highest=65535),
        recovery=HttpsAddress(
            host=recovery.text("host", longest=253),
            port=recovery.integer("port", lowest=0, highest=65535),
        ),
    )
    if lease.encode() != octets:
        raise MalformedMessageError("a lease is written in one way only")
    return lease


_NAMES = ("fleet", "domain", "station", "batch")


def _anchors(members: Fields) -> tuple[bytes, ...]:
    texts = members.texts("anchors", longest=_LONGEST_DER * 2)
    if not 1 <= len(texts) <= _MOST_ANCHORS:
        raise MalformedMessageError(f"a lease has 1 to {_MOST_ANCHORS} anchors")
    return tuple(Fields({"anchors": text}).base64("anchors", longest=_LONGEST_DER) for text in texts)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
