"""What every service of a home stands on: its configuration, authority and store."""

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fleet.ca.auditkey import load_audit_signer
from fleet.ca.hierarchy import Authority, load_authority
from fleet.ca.signers import issuing_passphrase
from fleet.config import Config
from fleet.home import Home
from fleet.model import Purpose
from fleet.ports import Clock, Store
from fleet.ra.publishing import Press
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What every kind of service stands on."""

    home: Home
    config: Config
    store: Store
    authority: Authority
    clock: Clock

    @property
    def press(self) -> Press:
        return Press(store=self.store, authority=self.authority, config=self.config)


async def open_parts(stack: AsyncExitStack, home: Home, settings: Config, clock: Clock) -> Parts:
    passphrase = issuing_passphrase(home.issuing_passphrase, environment=os.environ)
    authority = load_authority(home, fleet=settings.fleet, passphrase=passphrase)
    for domain in settings.domains:
        authority.issuer(Purpose.DEVICE, domain.name)
    authority.unlock()  # a wrong passphrase shows now, not with the first device
    sign = load_audit_signer(home.audit_key)
    seal = AuditSeal(log=settings.fleet, sign=sign, clock=clock, head_file=home.audit_head)
    store = await stack.enter_async_context(open_store(home.database, seal=seal))
    return Parts(home=home, config=settings, store=store, authority=authority, clock=clock)
