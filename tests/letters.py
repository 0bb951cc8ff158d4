"""Notifications for tests."""

from datetime import UTC, datetime

from fleet.core.letter import Item, Letter
from fleet.core.matters import Matter, Severity
from fleet.core.notification import Change

AT = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
ID = "0f" * 16


def letter(subject: str = "prod:d1", text: str = "its certificate ends", *, letter_id: str = ID) -> Letter:
    """Return a notification about one device."""
    item = Item(change=Change.ARISES, subject=subject, text=text, severity=Severity.WARNING, at=AT)
    return Letter(
        id=letter_id,
        number=7,
        fleet="acme",
        rule="all",
        matter=Matter.LEAF_ENDS,
        severity=Severity.WARNING,
        at=AT,
        items=(item,),
        count=1,
    )
