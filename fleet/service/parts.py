"""What every service of a home stands on: its configuration, authority and store."""

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fleet.ca.auditkey import load_audit_signer
from fleet.ca.hierarchy import Authority
from fleet.ca.keyring import KeyRing
from fleet.ca.loading import load_authority
from fleet.ca.signers import issuing_passphrase
from fleet.ca.token_keys import TokenKeys
from fleet.config import Config, DomainConfig
from fleet.core.goodkey import POST_QUANTUM, PostQuantumKey
from fleet.errors import BadInputError
from fleet.home import Home
from fleet.model import Purpose
from fleet.ports import Clock, Store
from fleet.ra.adopted.adopted_files import write_adopted
from fleet.ra.authority.authority_records import known_authorities
from fleet.ra.authority.trust_files import write_trust
from fleet.ra.in_force import InForce
from fleet.ra.own.brought import take_trust
from fleet.ra.status.press import Press
from fleet.ra.tracing import NO_TRACER, Tracer
from fleet.service.tracing import tracing
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What every kind of service stands on."""

    home: Home
    in_force: InForce
    store: Store
    clock: Clock
    tracer: Tracer = NO_TRACER

    @property
    def config(self) -> Config:
        return self.in_force.config

    @property
    def authority(self) -> Authority:
        return self.in_force.authority

    @property
    def press(self) -> Press:
        """What lists are made with before the listeners are there."""
        server = self.config.server
        return Press(
            store=self.store,
            authority=self.authority,
            config=self.config,
            status_url=server.status_place(server.http_port),
        )


async def open_parts(stack: AsyncExitStack, home: Home, settings: Config, clock: Clock) -> Parts:
    passphrase = issuing_passphrase(home.issuing_passphrase, environment=os.environ)
    keys = KeyRing(passphrase, tokens=TokenKeys(home.refused_pins))
    sign = load_audit_signer(home.audit_key)
    seal = AuditSeal(log=settings.fleet, sign=sign, clock=clock, head_file=home.audit_head)
    store = await stack.enter_async_context(open_store(home.database, seal=seal))
    records = await known_authorities(store, home, now=clock())
    authority = load_authority(home, fleet=settings.fleet, keys=keys, records=records)
    for domain in settings.domains:
        _require_fitting(domain, authority)
    authority.unlock()  # a wrong passphrase shows now, not with the first device
    take_trust(home, settings.server, own_pem=authority.server_trust_pem)
    write_trust(home, authority)
    await write_adopted(store, home)
    tracer = await stack.enter_async_context(tracing(settings.tracing, fleet=settings.fleet))
    in_force = InForce(authority, settings, keys=keys)
    return Parts(home=home, in_force=in_force, store=store, clock=clock, tracer=tracer)


def _require_fitting(domain: DomainConfig, authority: Authority) -> None:
    """Check that a domain has authorities, and that they can certify the keys that its profiles take.

    Raises:
        NotFoundError: it has none.
        BadInputError: they are post-quantum and its profiles are not, or the other way round.
    """
    authority.root(domain.name)
    takes_post_quantum = domain.ca_key in POST_QUANTUM
    for issuer in authority.active(Purpose.DEVICE, domain.name):
        if isinstance(issuer.public_key, PostQuantumKey) != takes_post_quantum:
            raise BadInputError(
                f"ca_key of the domain {domain.name} is {domain.ca_key}, and its CA is of another kind",
                hint="a domain is post-quantum as a whole, or not at all: fleet ca list",
            )
