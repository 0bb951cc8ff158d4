"""A factory station, or a person: it had the device in hand, and says so with a name of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.attest.proof import Proven, Statement
from fleet.model import Assurance, KeyOrigin

_ASSURANCE: Mapping[KeyOrigin, Assurance] = {
    KeyOrigin.DEVICE: Assurance.APPROVED,
    # The station has verified it, the server has not: it stays the station's word.
    KeyOrigin.ATTESTED: Assurance.APPROVED,
    # Whoever made the key can be the device, as whoever has a code can.
    KeyOrigin.HOST: Assurance.CODE,
}
_REMARK: Mapping[KeyOrigin, str] = {
    KeyOrigin.DEVICE: "",
    KeyOrigin.ATTESTED: "; the hardware attested its key to it",
    KeyOrigin.HOST: "; its key was made outside of the device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessVerifier:
    """The word of somebody who was looked up by the certificate or the session that he came with."""

    witness: str
    """`station <name>`, or `operator:<name>`."""
    key: KeyOrigin = KeyOrigin.DEVICE
    """Where the key was made, by his word."""

    def verify(self, _statement: Statement) -> Proven:
        """Return what his word proves; nothing is left to be refused."""
        return Proven(
            assurance=_ASSURANCE[self.key], evidence=f"the word of {self.witness}{_REMARK[self.key]}"
        )
