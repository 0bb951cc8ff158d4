"""What a station and its server tell each other beside certificates: the journal goes up, rules come down.

What the server said last is kept, so that a line without its server knows its operators and batches.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret
from fleet.core.badge import who_shows
from fleet.core.journal import Head, Kind, SignedEntry
from fleet.core.station_sync import MOST_ENTRIES, JournalReceipt, JournalUpload, fitting, parse_receipt
from fleet.errors import NeedsAttentionError
from fleet.station.keeping.ledger import Ledger
from fleet.station.server.enroller import Enroller

_RECEIPT = "receipt"


class Reporter:
    """One for a station. `operator` is the line operator who is signed on, or empty."""

    def __init__(self, *, ledger: Ledger, enroller: Enroller, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._enroller = enroller
        self._clock = clock
        self.operator = ""

    async def upload(self) -> JournalReceipt:
        """Hand in what the server does not have of the journal, and keep what it answers.

        Raises:
            NeedsAttentionError: the server does not take the journal; an operator must look.
            FleetError: the server or the ledger cannot be reached; what was sent before stays sent.
        """
        # The server says first how far it is: what it lost or never got is sent again.
        receipt = await self._send(())
        own = await self._ledger.journal_head()
        while not receipt.fault and receipt.head.number < own.number:
            entries = await self._ledger.journal_after(receipt.head.number, most=MOST_ENTRIES)
            receipt = await self._send(fitting(entries))
        if fault := receipt.fault or _behind(own, receipt.head):
            raise NeedsAttentionError(
                f"the server does not take this station's journal: {fault}", hint="fleet station report"
            )
        return receipt

    async def receipt(self) -> JournalReceipt | None:
        """Return what the server said last; None where it was never reached."""
        kept = await self._ledger.fact(_RECEIPT)
        try:
            return None if kept is None else parse_receipt(kept)
        except MalformedMessageError:
            return None  # of a later version of this program: the server says it anew

    async def sign_on(self, badge: Secret) -> str | None:
        """Let the operator begin whose badge or PIN this is; None where it is nobody's."""
        known = await self.receipt()
        pairs = [] if known is None else [(one.name, one.verifier) for one in known.operators]
        name = await asyncio.to_thread(who_shows, badge, pairs)
        if name is not None:
            await self._ledger.note(Kind.SIGNED_ON, {"operator": name})
            self.operator = name
        return name

    async def _send(self, entries: tuple[SignedEntry, ...]) -> JournalReceipt:
        receipt = await self._enroller.sync(JournalUpload(now=self._clock(), entries=entries))
        await self._ledger.keep_fact(_RECEIPT, receipt.encode())
        return receipt


def _behind(own: Head, known: Head) -> str:
    """Return what is wrong where the server knows a journal that goes on after this one ends."""
    if known.number <= own.number:
        return ""
    return f"it has {known.number} entries, this ledger {own.number}: the ledger is an older copy"
