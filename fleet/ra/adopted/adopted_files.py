"""Writes whom listeners and brokers know beside our CAs: adopted fleets, stations that sign off line."""

import asyncio

from fleet.ca import der
from fleet.ca.issuer import pem_of
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import Home
from fleet.ports import Store
from fleet.store import leases
from fleet.store.adopted import list_adoptions


async def write_adopted(store: Store, home: Home) -> None:
    """Make the files say which adoptions are open, and which stations sign; with none there are no files.

    A station's CA comes with its list, which brokers want of every CA: before, TLS turns its leaves away.

    Raises:
        FleetError: a file cannot be written.
    """
    open_ones = [one for one in await store.read(list_adoptions, None) if one.closed_at is None]
    texts = {
        home.adopted_authorities: "".join(one.authorities for one in open_ones) + await _roots(store),
        home.adopted_crls: "".join(one.crls for one in open_ones) + await _lists(store),
    }
    for path, text in texts.items():
        if not text:
            path.unlink(missing_ok=True)
            continue
        make_folder(path.parent)
        await asyncio.to_thread(write_file, path, text.encode(), mode=PUBLIC_MODE)


async def _roots(store: Store) -> str:
    return "".join(pem_of(one.certificate) for one in await store.read(leases.list_roots, ""))


async def _lists(store: Store) -> str:
    found = [one.crl for one in await store.read(leases.list_leases, "") if one.crl]
    return "".join(der.pem("X509 CRL", crl).decode() for crl in found)
