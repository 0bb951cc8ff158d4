"""A security domain on a living fleet: its root is made where its key is to be, and taken in here.

Done again after a cut, it goes on where it was. Its issuing CA comes as every other one: asked for, certified
by the root, activated.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet import config
from fleet.ca.crl import ReadCrl, read_crl
from fleet.ca.founding import Founded
from fleet.ca.hierarchy import RESERVED_DOMAINS
from fleet.ca.issuer import fingerprint_of, issued_of, issuer_id_of
from fleet.ca.loading import load_certificate
from fleet.config import DomainConfig
from fleet.core.authority import AuthorityRecord, AuthorityState, KeyKind, authority_name
from fleet.core.goodkey import KeyType, check_key
from fleet.core.profile import ROOT_PROFILE
from fleet.errors import BadInputError, RefusedError
from fleet.files import PUBLIC_MODE, telling, write_file
from fleet.home import Home
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority.beginning import LOCAL_STATION, issue_for_domain, record_domain, record_founded
from fleet.ra.authority_changes import Change, entry
from fleet.ra.context import Context
from fleet.ra.people.batches import surroundings
from fleet.store import audit
from fleet.store.authorities import insert_authority, list_authorities
from fleet.store.revocations import StoredCrl, next_crl_number, save_crl


@dataclass(frozen=True, slots=True, kw_only=True)
class _Root:
    """A root that was made for a new domain, as its folder shows it."""

    certificate: x509.Certificate
    crl: ReadCrl
    crl_der: bytes
    key: KeyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Addition:
    domain: str
    root: _Root
    name: str
    """Of the root."""
    actor: str
    at: datetime


async def add_domain(context: Context, name: str, *, actor: str, ca_key: KeyType = KeyType.P256) -> None:
    """Take in a domain whose root stands in `ca/<name>` of the home; from now on the fleet has it.

    Raises:
        BadInputError: the name cannot be used, or the folder holds no root for it.
        FleetError: something could not be issued or written; done again, it goes on.
    """
    check_name(name)
    async with context.in_force.changing:
        root = await asyncio.to_thread(_root_of, context.home, name)
        addition = _Addition(
            domain=name,
            root=root,
            name=authority_name(context.fleet, f"{name} root"),
            actor=actor,
            at=context.clock().replace(microsecond=0),
        )
        is_new = await context.store.write(_record, addition)
    await reload_authority(context)
    place = context.home.public_claim(name).certificate
    if is_new or not place.exists():
        station = f"{LOCAL_STATION}-{name}"
        own = issue_for_domain(context.home, surroundings(context), name, station=station, now=addition.at)
        async for issued in own:
            if issued.sequence is not None:
                await context.broker.reach(issued.sequence)
    async with context.in_force.changing:
        added = await asyncio.to_thread(_configure, context.home, DomainConfig(name=name, ca_key=ca_key))
        if context.config.domain(name) is None:
            # What else somebody has changed in the file is not in force by this.
            domains = (*context.config.domains, added)
            context.in_force.replace(config=replace(context.config, domains=domains))


def check_name(name: str) -> None:
    """Raise `BadInputError` where no domain can have this name."""
    try:
        parse_domain(name)
    except MalformedMessageError as error:
        raise BadInputError(f"domain {error}", hint="such as fleet domain add lab") from error
    if name in RESERVED_DOMAINS:
        raise BadInputError(f"domain {name} is a name of our own", hint="choose another name")


def _root_of(home: Home, name: str) -> _Root:
    files = home.authority(name)
    certificate = load_certificate(files.ca.certificate)
    try:
        certificate.verify_directly_issued_by(certificate)
        check_key(certificate.public_key())
    except (ValueError, TypeError, RefusedError, InvalidSignature) as error:
        raise BadInputError(f"{files.ca.certificate} is no root", hint=f"fleet domain add {name}") from error
    with telling(files.crl):
        crl_der = files.crl.read_bytes()
    return _Root(
        certificate=certificate,
        crl=read_crl(crl_der, certificate),
        crl_der=crl_der,
        key=KeyKind.TOKEN if files.token.exists() else KeyKind.FILE,
    )


async def _record(tx: Transaction, addition: _Addition) -> bool:
    """Record the root and what the domain begins with; return whether it was not on record."""
    root, at = addition.root, addition.at
    record = _record_of(addition)
    for known in await list_authorities(tx):
        if known.folder == record.folder:
            if known.issuer != record.issuer:
                raise RefusedError(
                    f"the domain {addition.domain} has another root on record", hint="fleet domain list"
                )
            return False
    await insert_authority(tx, record)
    await record_founded(tx, _founded(addition, issuer=record.issuer), at)
    await _record_list(tx, record.issuer, root)
    what = Change(name=record.folder, actor=addition.actor, at=at)
    await audit.append(tx, entry(record, "domain.added", what))
    station = f"{LOCAL_STATION}-{addition.domain}"
    await record_domain(tx, addition.domain, station, actor=addition.actor, at=at)
    return True


def _record_of(addition: _Addition) -> AuthorityRecord:
    return AuthorityRecord(
        folder=addition.domain,
        issuer=issuer_id_of(addition.root.certificate),
        realm=addition.domain,
        purpose=Purpose.AUTHORITY,
        state=AuthorityState.ACTIVE,
        key=addition.root.key,
        added_at=addition.at,
        changed_at=addition.at,
    )


def _founded(addition: _Addition, *, issuer: str) -> Founded:
    certificate = addition.root.certificate
    return Founded(
        issued=issued_of(certificate, issuer_id=issuer, anchor=fingerprint_of(certificate)),
        name=addition.name,
        profile=ROOT_PROFILE.name,
        purpose=Purpose.AUTHORITY,
        domain=addition.domain,
    )


async def _record_list(tx: Transaction, issuer: str, root: _Root) -> None:
    number = await next_crl_number(tx, issuer, floor=root.crl.number - 1)
    stored = StoredCrl(
        issuer=issuer,
        number=number,
        this_update=root.crl.this_update,
        next_update=root.crl.next_update,
        der=root.crl_der,
    )
    await save_crl(tx, stored)


def _configure(home: Home, domain: DomainConfig) -> DomainConfig:
    """Add the domain to `fleet.toml`, unless it has it; return it as it stands there."""
    settings = config.load(home.config)
    if (known := settings.domain(domain.name)) is not None:
        return known
    with telling(home.config):
        text = config.with_domain(home.config.read_text("utf-8"), domain)
    added = config.parse(text, source=str(home.config)).domain(domain.name)
    write_file(home.config, text.encode(), mode=PUBLIC_MODE)
    return added or domain
