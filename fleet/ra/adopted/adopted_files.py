"""Writes what listeners and brokers trust of adopted fleets: CAs and lists of the adoptions that are open."""

import asyncio

from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import Home
from fleet.ports import Store
from fleet.store.adopted import list_adoptions


async def write_adopted(store: Store, home: Home) -> None:
    """Make the files say which adoptions are open; with none there are no files. Raises `FleetError`."""
    open_ones = [one for one in await store.read(list_adoptions, None) if one.closed_at is None]
    texts = {
        home.adopted_authorities: "".join(one.authorities for one in open_ones),
        home.adopted_crls: "".join(one.crls for one in open_ones),
    }
    for path, text in texts.items():
        if not text:
            path.unlink(missing_ok=True)
            continue
        make_folder(path.parent)
        await asyncio.to_thread(write_file, path, text.encode(), mode=PUBLIC_MODE)
