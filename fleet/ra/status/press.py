"""What revocation lists are made with, before any broker or listener is there."""

from dataclasses import dataclass
from datetime import timedelta

from fleet.ca.hierarchy import Authority
from fleet.config import Config
from fleet.ports import Store
from fleet.ra.context import Context

BACKDATE = timedelta(minutes=1)
"""How far thisUpdate lies before a list is made: that may be while it is asked for, and OpenSSL refuses what
is a second younger than its own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """All that making lists needs."""

    store: Store
    authority: Authority
    config: Config
    status_url: str
    """Where leaves that are issued now are sent for their status."""


def press_of(context: Context) -> Press:
    """Return what a running service makes its lists with."""
    return Press(
        store=context.store,
        authority=context.authority,
        config=context.config,
        status_url=context.endpoints.status_url,
    )
