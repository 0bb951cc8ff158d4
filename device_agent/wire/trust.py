"""Trust bundles: the anchors of one realm, numbered, and signed by the newest of them.

A bundle is bytes that somebody sent. Whether it is believed, the device's core decides by what it holds.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError

FLEET_REALM = "fleet"
"""The realm by whose anchors devices trust servers; every other realm is a domain."""
MAX_VERSION = 2**31 - 1
MOST_BUNDLES = 4

_FORMAT_VERSION = 1
_KIND = "trust"
_LONGEST_NAME = 32
_LONGEST_SIGNATURE = 1024
_MOST_REALMS = 8

TrustVersions: TypeAlias = tuple[tuple[str, int], ...]
"""Which version of each realm's bundle a device holds; a realm whose bundle was never taken is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """All trust anchors of a realm from this version on."""

    realm: str
    """A domain, or `FLEET_REALM`."""
    version: int
    """Grows with each bundle of the realm."""
    anchors: str
    """PEM, the oldest first; the last one signs."""
    links: str | None = None
    """PEM: certificates by which an older anchor vouches for the key of a newer one."""
    signature: bytes
    """Over `proofs.trust_text`, by the last anchor's key."""

    def members(self) -> dict[str, object]:
        return {
            "realm": self.realm,
            "version": self.version,
            "anchors": self.anchors,
            "links": self.links,
            "signature": self.signature.hex(),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            realm=parse_domain(fields.text("realm", longest=_LONGEST_NAME)),
            version=fields.integer("version", lowest=1, highest=MAX_VERSION),
            anchors=fields.pem("anchors"),
            links=fields.pem("links") if "links" in fields else None,
            signature=fields.hex("signature", lowest=1, highest=_LONGEST_SIGNATURE),
        )

    def encode(self) -> bytes:
        """Return the bundle as a JSON document of its own, as it stands in a file."""
        return json.dumps({"v": _FORMAT_VERSION, "type": _KIND} | self.members(), indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read such a document; raises `MalformedMessageError`."""
        fields = parse_object(body)
        version, kind = fields.integer("v", lowest=0, highest=255), fields.text("type", longest=32)
        if version != _FORMAT_VERSION or kind != _KIND:
            raise MalformedMessageError(f"body must be a {_KIND} of version {_FORMAT_VERSION}")
        return cls.read(fields)


def bundle_members(bundles: Iterable[TrustBundle]) -> list[dict[str, object]]:
    """Return bundles as they stand inside another message."""
    return [bundle.members() for bundle in bundles]


def read_bundles(fields: Fields, name: str) -> tuple[TrustBundle, ...]:
    """Read the bundles inside another message; absent counts as none."""
    if name not in fields:
        return ()
    return tuple(TrustBundle.read(each) for each in fields.objects(name, most=MOST_BUNDLES))


def read_versions(fields: Fields, name: str) -> TrustVersions:
    """Read which bundles a device holds; absent counts as none."""
    if name not in fields:
        return ()
    found = fields.object(name)
    if len(found.names()) > _MOST_REALMS:
        raise MalformedMessageError(f"{name} must not name more than {_MOST_REALMS} realms")
    return tuple(
        (parse_domain(realm), found.integer(realm, lowest=1, highest=MAX_VERSION))
        for realm in sorted(found.names())
    )
