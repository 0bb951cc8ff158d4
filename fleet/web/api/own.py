"""Operators' routes of the fleet's own certificates: renewed by their bearers or at once, taken in live."""

from cryptography import x509

from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_serial, serial_hex
from fleet.errors import BadInputError, NeedsAttentionError, RefusedError
from fleet.model import Purpose, Role
from fleet.pair_files import in_force
from fleet.ra.own.brought import take_in
from fleet.ra.own.own_renewal import renew_own
from fleet.ra.own.own_requests import Bearer, certificate_pem, end_earlier, renew_for
from fleet.ra.people.operators import LOCAL
from fleet.store.certificates import CertificateRecord
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route
from fleet.web.gate import peer_certificate

RENEWED_HERE = frozenset({Purpose.SERVER, Purpose.SERVICE, Purpose.SIGNER})
"""What can be renewed before its time; operators and stations do so themselves."""


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        *_of_oneself(),
        Route(
            method="POST",
            path="own/renew",
            role=Role.SECURITY,
            handler=_renew_now,
            about="Renew the fleet's own certificates of these purposes now, with new keys.",
            body=("purposes",),
            needs=frozenset({"purposes"}),
            answer=One("ServerCertificate"),
        ),
        Route(
            method="POST",
            path="own/reload",
            role=Role.SECURITY,
            handler=_reload,
            about="Take in a server certificate that was brought; whoever connects from now on sees it.",
            answer=One("ServerCertificate"),
        ),
    )


def _of_oneself() -> tuple[Route, Route]:
    return (
        Route(
            method="POST",
            path="operators/{name}/renew",
            role=Role.VIEWER,
            handler=_renew_operator,
            about="Next certificate of the operator that asks, for a key that stays there.",
            body=("csr",),
            needs=frozenset({"csr"}),
            answer=One("Renewed"),
        ),
        Route(
            method="POST",
            path="operators/{name}/renewed",
            role=Role.VIEWER,
            handler=_operator_renewed,
            about="The next certificate of the operator that asks works: end those before it.",
            body=("serial",),
            needs=frozenset({"serial"}),
            answer=One("Superseded"),
        ),
    )


async def _renew_operator(asked: Asked) -> Members:
    bearer = _operator(asked)
    csr = asked.body().pem("csr")
    return _renewed(asked, await renew_for(asked.context, bearer, csr))


async def _operator_renewed(asked: Asked) -> Members:
    bearer, serial = _operator(asked), parse_serial(asked.body().text("serial", longest=32))
    shown = peer_certificate(asked.request)
    if asked.operator.name != LOCAL and (shown is None or shown.serial != serial):
        raise RefusedError(
            "a certificate is proved by a connection that shows it", hint="connect with the new certificate"
        )
    return {"superseded": list(await end_earlier(asked.context, bearer, serial))}


async def _renew_now(asked: Asked) -> Members:
    words = asked.body().texts("purposes", longest=16)
    if not words or not set(words) <= RENEWED_HERE:
        raise BadInputError(
            f"only {', '.join(sorted(RENEWED_HERE))} are renewed here", hint="fleet cert renew server"
        )
    await renew_own(asked.context, frozenset(Purpose(one) for one in words))
    return _server_certificate(asked)


async def _reload(asked: Asked) -> Members:
    context = asked.context
    async with context.tls_users.turn:
        await take_in(context)
        context.tls_users.refused = ""
        await context.tls_users.reload()
    return _server_certificate(asked)


def _operator(asked: Asked) -> Bearer:
    """Return the operator whom the path names: himself, or one whose files this home keeps."""
    name = asked.request.match_info["name"]
    if asked.operator.name not in {name, LOCAL}:
        raise RefusedError(
            f"{asked.operator.name} cannot renew the certificate of {name}", hint="fleet operator renew"
        )
    return Bearer(purpose=Purpose.OPERATOR, name=name, actor=asked.actor)


def _renewed(asked: Asked, record: CertificateRecord) -> Members:
    return {
        "serial": record.serial,
        "certificate": certificate_pem(asked.context, record),
        "not_after": None if record.signed is None else time_text(record.signed.not_after),
    }


def _server_certificate(asked: Asked) -> Members:
    path = in_force(asked.context.home.server).certificate
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise NeedsAttentionError(f"{path} cannot be read", hint="fleet doctor") from error
    return {
        "serial": serial_hex(found.serial_number),
        "issuer": found.issuer.rfc4514_string(),
        "not_after": time_text(found.not_valid_after_utc),
    }
