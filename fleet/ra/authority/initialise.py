"""`fleet init`: a whole fleet home from a few names, in one step that happens or does not.

Never overwrites, never asks, and leaves nothing behind when it fails.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from device_agent.wire.identity import parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret
from device_agent.wire.token_uri import TokenUri
from fleet import config
from fleet.ca.auditkey import load_audit_signer, make_audit_key
from fleet.ca.founding import Founded, Founder
from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM, RESERVED_DOMAINS
from fleet.ca.issuer import Issuer
from fleet.ca.keyring import KeyRing
from fleet.ca.loading import load_authority, records_of_files
from fleet.core.goodkey import KeyType
from fleet.errors import BadInputError
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import Home, OperatorFiles
from fleet.model import Purpose
from fleet.new_home import new_home
from fleet.ra.authority.beginning import Beginning, FoundedRoot, Founding
from fleet.ra.authority.trust_files import write_trust
from fleet.ra.issue_own import Surroundings
from fleet.store.authorities import insert_authorities
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import create_store
from fleet.toml_section import is_plain_http

_PASSPHRASE_RANDOMNESS = 20
_SHORTEST_PASSPHRASE = 8
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_FLEET_PURPOSES = (Purpose.SERVER, Purpose.SERVICE, Purpose.OPERATOR, Purpose.STATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a new fleet is called, and who it is for."""

    fleet: str
    domains: tuple[str, ...] = ("prod",)
    hosts: tuple[str, ...] = ("localhost",)
    """Names and addresses of the server; devices are told the first one."""
    status_url: str = ""
    """`http://HOST[:PORT]` of a proxy that relying parties reach; empty: the server itself."""
    ca_keys: Mapping[str, KeyType] = field(default_factory=dict)
    """What the authorities of a domain are made with, where that is not P-256."""
    token: TokenUri | None = None
    """The token that keys of roots and issuing CAs are made in; None: files in the home."""
    operator: str = "admin"
    root_passphrase: Secret | None = None
    """None: one is made and kept in the home, until somebody moves it off the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What was made, for the person who asked."""

    home: Home
    operator: OperatorFiles
    root_passphrase_made: bool
    certificates: int
    """How many certificates stand in the records."""


async def initialise(
    root: Path, plan: Plan, *, now: datetime, randomness: Callable[[int], bytes], work_factor: int = 14
) -> Initialised:
    """Make the fleet home `root`. scrypt's N, which guards the keys, is 2 to the `work_factor`.

    Raises:
        RefusedError: something is there already.
        BadInputError: a name cannot be used, or the place cannot be written.
        StorageFullError, StoreError: the disk is full, or broken.
    """
    _check(plan)
    now = now.replace(microsecond=0)
    text = config.default_text(
        fleet=plan.fleet,
        domains=plan.domains,
        host=plan.hosts[0],
        status_url=plan.status_url,
        ca_keys=plan.ca_keys,
    )
    settings = config.parse(text)
    founder = Founder(
        fleet=plan.fleet,
        now=now,
        randomness=randomness,
        status_url=settings.server.status_place(settings.server.http_port),
        root_passphrase=plan.root_passphrase or _new_passphrase(randomness),
        issuing_passphrase=_new_passphrase(randomness),
        work_factor=work_factor,
        ca_keys={domain.name: domain.ca_key for domain in settings.domains},
        token=plan.token,
    )
    with founder.tokens.or_none(), new_home(root) as home:
        _write_passphrases(home, founder, keep_root=_is_kept(plan))
        founding = _found(home, founder, plan.domains)
        make_folder(home.audit)
        make_audit_key(home.audit_key, public_file=home.audit_public_key)
        certificates = await _fill_store(home, plan, founder, founding)
        make_folder(home.run)
        write_file(home.config, text.encode(), mode=PUBLIC_MODE)
    return _finished(Home(root), plan, certificates)


def _is_kept(plan: Plan) -> bool:
    """Tell whether a passphrase is made, and kept in the home until somebody takes it away."""
    return plan.root_passphrase is None and plan.token is None


def _finished(home: Home, plan: Plan, certificates: int) -> Initialised:
    place = Home(home.root.absolute())
    return Initialised(
        home=place,
        operator=place.operator(plan.operator),
        root_passphrase_made=_is_kept(plan),
        certificates=certificates,
    )


# --- what may be asked for ------------------------------------------------------------------------


def _check(plan: Plan) -> None:
    try:
        for name in (plan.fleet, *plan.domains):
            parse_domain(name)
        parse_device_id(plan.operator)
    except MalformedMessageError as error:
        raise BadInputError(str(error), hint="such as --name acme --domain prod") from error
    if not plan.domains or len(set(plan.domains)) != len(plan.domains):
        raise BadInputError("the fleet needs domains, each once", hint="such as --domain prod")
    if reserved := RESERVED_DOMAINS.intersection(plan.domains):
        raise BadInputError(f"domain {min(reserved)} is a name of our own", hint="choose another name")
    if strangers := sorted(set(plan.ca_keys) - set(plan.domains)):
        raise BadInputError(f"there is no domain {strangers[0]}", hint=f"add --domain {strangers[0]}")
    for host in plan.hosts or ("",):
        _check_host(host)
    if plan.status_url and not is_plain_http(plan.status_url):
        raise BadInputError(
            f"status url {plan.status_url!r} is not plain http",
            hint="such as --status-url http://pki.example.org",
        )
    passphrase = plan.root_passphrase
    if passphrase is not None and len(passphrase.reveal()) < _SHORTEST_PASSPHRASE:
        raise BadInputError(
            f"the roots' passphrase has less than {_SHORTEST_PASSPHRASE} characters", hint="use a longer one"
        )


def _check_host(host: str) -> None:
    if _HOST_NAME.fullmatch(host):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise BadInputError(
            f"host {host!r} is no host name and no address", hint="such as --host fleet.example.org"
        ) from error


def _new_passphrase(randomness: Callable[[int], bytes]) -> Secret:
    return Secret(base64.b32encode(randomness(_PASSPHRASE_RANDOMNESS)).decode().lower())


# --- authorities ----------------------------------------------------------------------------------


def _write_passphrases(home: Home, founder: Founder, *, keep_root: bool) -> None:
    make_folder(home.ca)
    write_file(home.issuing_passphrase, f"{founder.issuing_passphrase.reveal()}\n".encode())
    if keep_root:
        write_file(home.root_passphrase, f"{founder.root_passphrase.reveal()}\n".encode())


def _found(home: Home, founder: Founder, domains: tuple[str, ...]) -> Founding:
    made: list[Founded] = []
    roots: list[FoundedRoot] = []
    issuers: list[Issuer] = []
    for realm, purposes in _realms(domains):
        files = home.authority(realm)
        root, founded = founder.root(files, realm=realm)
        made.append(founded)
        roots.append(FoundedRoot(realm=realm, issuer=root, crl=founder.root_crl(files, root)))
        for purpose in purposes:
            domain = realm if purpose is Purpose.DEVICE else ""
            below = home.issuing(realm, f"{purpose}-1")
            issuer, with_signers = founder.issuing(below, root, purpose=purpose, domain=domain)
            issuers.append(issuer)
            made.extend(with_signers)
    return Founding(made=tuple(made), roots=tuple(roots), issuers=tuple(issuers))


def _realms(domains: tuple[str, ...]) -> Iterator[tuple[str, tuple[Purpose, ...]]]:
    yield FLEET_REALM, _FLEET_PURPOSES
    yield BOOTSTRAP_REALM, (Purpose.CLAIM,)
    for domain in domains:
        yield domain, (Purpose.DEVICE,)


# --- records --------------------------------------------------------------------------------------


async def _fill_store(home: Home, plan: Plan, founder: Founder, founding: Founding) -> int:
    records = records_of_files(home, at=founder.now)
    authority = load_authority(
        home,
        fleet=plan.fleet,
        keys=KeyRing(founder.issuing_passphrase, tokens=founder.tokens),
        records=records,
    )
    # What was just written is read back and opened, so that a home that cannot start is never made.
    authority.unlock()
    write_trust(home, authority)
    seal = AuditSeal(
        log=plan.fleet,
        sign=load_audit_signer(home.audit_key),
        clock=lambda: founder.now,
        head_file=home.audit_head,
    )
    async with create_store(home.database, seal=seal) as store:
        await store.write(insert_authorities, records)
        beginning = Beginning(
            home=home,
            surroundings=Surroundings(
                store=store,
                authority=authority,
                randomness=founder.randomness,
                status_url=founder.status_url,
            ),
            domains=plan.domains,
            hosts=plan.hosts,
            operator=plan.operator,
            now=founder.now,
        )
        return await beginning.record(founding)
