"""What the server cannot begin without: good certificates for itself, before anybody is spoken to.

Renewal comes long before their end, at a server that runs. One that was off for a year, or was restored from
before its last renewal, holds certificates that have ended: its own broker would refuse it.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from device_agent.wire.identity import serial_hex
from fleet.config import ServerConfig
from fleet.core.unreadable import UNREADABLE
from fleet.home import Home, KeyPairFiles
from fleet.model import CertificateState, Purpose
from fleet.pair_files import in_force, pair_content, switch
from fleet.ra.authority.beginning import SERVICE_NAME
from fleet.ra.issue_own import OwnRequest, Surroundings, issue_own
from fleet.ra.own.own_pairs import names_of
from fleet.store.certificates import load_certificate

_ACTOR = "server"
_UNREADABLE: tuple[type[Exception], ...] = (OSError, *UNREADABLE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needed:
    files: KeyPairFiles
    purpose: Purpose
    name: str


async def make_good(surroundings: Surroundings, home: Home, server: ServerConfig, *, now: datetime) -> None:
    """Issue another for each of them that is on record as ended, or is past its end.

    Raises:
        FleetError: it could not be signed, recorded or written.
    """
    for needed in _needed(home, server):
        certificate = _certificate(needed.files)
        if certificate is not None and not await _is_over(surroundings, certificate, now=now):
            continue
        await _replace(surroundings, needed, certificate, now=now)


def _needed(home: Home, server: ServerConfig) -> Iterator[_Needed]:
    yield _Needed(files=home.service, purpose=Purpose.SERVICE, name=SERVICE_NAME)
    if server.certificate is None:
        yield _Needed(files=home.server, purpose=Purpose.SERVER, name=server.host)


def _certificate(files: KeyPairFiles) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(in_force(files).certificate.read_bytes())
    except _UNREADABLE:
        return None


async def _is_over(surroundings: Surroundings, certificate: x509.Certificate, *, now: datetime) -> bool:
    record = await surroundings.store.read(load_certificate, serial_hex(certificate.serial_number))
    is_active = record is not None and record.state is CertificateState.ACTIVE
    return not is_active or certificate.not_valid_after_utc <= now


async def _replace(
    surroundings: Surroundings, needed: _Needed, before: x509.Certificate | None, *, now: datetime
) -> None:
    is_server = needed.purpose is Purpose.SERVER
    names = names_of(before) if is_server and before is not None else ()
    request = OwnRequest(
        purpose=needed.purpose,
        name=needed.name,
        actor=_ACTOR,
        hosts=tuple(dict.fromkeys([needed.name, *names])) if is_server else (),
    )
    own = await issue_own(surroundings, request, now=now.replace(microsecond=0))
    content = pair_content(needed.files, key_pem=own.key_pem, certificate_pem=own.certificate_pem)
    await asyncio.to_thread(switch, content, named=needed.files.certificate)
    _log.warning("%s had ended, and was replaced before the start", needed.files.certificate)
