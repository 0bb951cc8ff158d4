"""The way to people, as the use cases see it: whatever carries a notification to its receivers."""

from typing import Protocol

from fleet.core.letter import Letter


class Carrier(Protocol):
    """One channel to people: a mail server, a webhook, topics at a broker, a file."""

    async def carry(self, letter: Letter, address: str) -> str:
        """Return what the receiver said, once it has the notification; `address` is its mailbox, if any.

        The same letter may come twice: its id tells the receiver so.

        Raises:
            UnreachableError: not now, try again; nobody knows whether it arrived.
            RefusedError: the receiver will never take it.
            FleetError: it cannot be sent as the channel is set up; try again.
        """
        ...

    def check(self) -> None:
        """Look at what the channel needs on this machine; nobody is called.

        Raises:
            FleetError: something is missing, or open to others.
        """
        ...
