"""Which authorities a home has: its store says it. A home that is older than these records gets them now."""

from datetime import datetime

from fleet.ca.loading import records_of_files
from fleet.core.authority import AuthorityRecord
from fleet.home import Home
from fleet.ports import Store
from fleet.store.authorities import insert_authorities, list_authorities


async def known_authorities(store: Store, home: Home, *, now: datetime) -> tuple[AuthorityRecord, ...]:
    """Return all records; where there are none yet, make them from the files.

    Raises:
        FleetError: the store or a file cannot be read.
    """
    if known := await store.read(list_authorities, None):
        return known
    found = records_of_files(home, at=now)
    await store.write(insert_authorities, found)
    return found
