"""What the doctor knows of the fleet's own certificates, of one that was brought, and of adopted fleets."""

from datetime import timedelta

from fleet.model import CertificateState, Purpose
from fleet.ra.adopted.adoption import standings
from fleet.ra.authority.beginning import SERVICE_NAME
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.ra.own.brought import ends_at
from fleet.store.certificates import CertificateQuery, CertificateRecord, list_certificates

_SOON = timedelta(days=14)
_SEVERAL = 1000


async def own_certificates(context: Context) -> list[Finding]:
    """They renew themselves months before their end: one that is near it has a reason in the server's log."""
    found = []
    for purpose in (Purpose.SERVER, Purpose.SERVICE, Purpose.SIGNER):
        query = CertificateQuery(
            purpose=purpose,
            state=CertificateState.ACTIVE,
            ends_before=context.clock() + _SOON,
            limit=_SEVERAL,
        )
        for record in await context.store.read(list_certificates, query):
            ours = f"see the log of fleet serve, or renew it now: fleet cert renew {purpose}"
            is_backend = purpose is Purpose.SERVICE and record.name != SERVICE_NAME
            fix = f"fleet service renew {record.name}" if is_backend else ours
            found.append(bad("own certificates", _ends(record), fix=fix))
    return found or [good("own certificates", "server, service and signers are in their time")]


async def server_certificate(context: Context) -> list[Finding]:
    """What was brought is in use, and its end is not near."""
    if context.config.server.certificate is None:
        return []
    if problem := context.tls_users.refused:
        return [bad("server certificate", problem, fix="mend the files, then: fleet serve --reload")]
    end = ends_at(context.home)
    if end is None or end < context.clock() + _SOON:
        text = "the one that was brought " + ("cannot be read" if end is None else f"ends {end:%Y-%m-%d}")
        return [bad("server certificate", text, fix="have its CA renew it: see [server] in fleet.toml")]
    return [good("server certificate", f"the one that was brought is in use, until {end:%Y-%m-%d}")]


async def adoptions(context: Context) -> list[Finding]:
    """Revocation lists of other CAs do not end soon, and nothing stays open that is over."""
    found = []
    for one in await standings(context):
        name, until = one.adoption.name, one.adoption.crls_until
        if one.adoption.closed_at is None and until < context.clock() + _SOON:
            text = f"the revocation list of {name} ends {until:%Y-%m-%d}, and the way in of its devices"
            found.append(bad("adoptions", text, fix=f"fleet adoption crl {name} FILE"))
        if one.adoption.closed_at is None and one.listed and not one.here + one.waiting:
            text = f"all devices of {name} have moved"
            found.append(bad("adoptions", text, fix=f"fleet adoption close {name}"))
    return found


def _ends(record: CertificateRecord) -> str:
    end = "" if record.signed is None else f"{record.signed.not_after:%Y-%m-%d}"
    return f"the {record.purpose} certificate {record.name} ends {end}"
