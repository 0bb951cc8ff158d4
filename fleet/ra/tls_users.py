"""Tells everything that holds our certificates, or TLS trust, in memory to read it again.

Nobody is dropped by it: who is connected stays, who connects sees the new certificate.
"""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fleet.errors import FleetError, NeedsAttentionError


class TlsUser(Protocol):
    """A listener, a broker, or a client of our own."""

    async def reload_tls(self) -> None:
        """Read certificate, key and trust again; raises `FleetError`, and keeps the earlier ones then."""
        ...


class TlsUsers:
    """All that hold TLS material in this process; there are none where it opens no listener."""

    def __init__(self) -> None:
        self._users: list[TlsUser] = []
        self.turn = asyncio.Lock()
        """Whoever replaces certificates in the home waits for it: one at a time."""
        self.tried: dict[Path, datetime] = {}
        """When the certificate of a file was last begun to be renewed."""
        self.is_behind = False
        """Somebody could not read the newest certificates: it is to be tried again."""
        self.wanted = asyncio.Event()
        """Somebody wants housekeeping to look at once: SIGHUP."""
        self.refused = ""
        """Why the newest server certificate that was brought is not in use."""

    def add(self, user: TlsUser) -> None:
        self._users.append(user)

    async def reload(self) -> None:
        """Make every one of them read again, also after one that failed.

        Raises:
            NeedsAttentionError: one or more go on with what they had.
        """
        problems: list[str] = []
        self.is_behind = True
        for user in self._users:
            try:
                await user.reload_tls()
            except FleetError as error:
                problems.append(str(error))
        self.is_behind = bool(problems)
        if problems:
            raise NeedsAttentionError(
                f"not everything reads the new certificates: {'; '.join(problems)}", hint="fleet doctor"
            )
