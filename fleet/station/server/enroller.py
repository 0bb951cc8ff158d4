"""Where a station gets certificates from, as a protocol."""

from typing import Protocol

from fleet.core.station_sync import JournalReceipt, JournalUpload
from fleet.station.keeping.package import Issuance, IssueOrder


class Enroller(Protocol):
    """The registration authority, as a station sees it. Every call may be repeated."""

    async def issue(self, order: IssueOrder) -> Issuance:
        """Return the certificate for this id and key: the same one, however often it is asked for.

        Raises:
            RefusedError: policy says no; its code says why.
            UnreachableError: nobody answers, or not yet: ask again later.
        """
        ...

    async def confirm(self, serial: str) -> None:
        """Tell that the unit uses this certificate from now on; raises as `issue`."""
        ...

    async def sync(self, upload: JournalUpload) -> JournalReceipt:
        """Hand in entries of the journal; return what the server has, and what holds; raises as `issue`."""
        ...
