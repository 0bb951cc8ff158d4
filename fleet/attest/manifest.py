"""A manufacturer's list: the key of the request is the one that the maker put into this very device.

The request is signed by it (RFC 2986 4.2), so whoever asks has it.
"""

from dataclasses import dataclass

from fleet.attest.proof import Proven, Statement, refusal
from fleet.core.things import Thing, ThingKind
from fleet.model import Assurance


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestVerifier:
    """What lists say of the request's key: whose it is, if any, and who vouches for the list."""

    owner: str | None
    source: str = ""

    def verify(self, statement: Statement) -> Proven:
        """Return what the list proves; raises `RefusedError`."""
        if self.owner is None:
            raise refusal("no manufacturer's list has this key")
        if self.owner != statement.device_id:
            raise refusal("a manufacturer's list has this key for another device")
        return Proven(
            assurance=Assurance.MANUFACTURER,
            evidence=f"its key is on a list, from {self.source}",
            names=self.owner,
            things=(Thing(kind=ThingKind.KEY, value=statement.key_hash),),
        )
