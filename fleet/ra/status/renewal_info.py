"""When a certificate is to be renewed, for whoever asks by its name: renewal information (RFC 9773)."""

from datetime import timedelta

from fleet.core.renewal_info import CertificateName
from fleet.core.windows import Suggested, suggested
from fleet.errors import NotFoundError
from fleet.model import CertificateState
from fleet.ra.context import Context
from fleet.ra.noticing import due_at
from fleet.store.certificates import load_certificate

ASK_AGAIN = timedelta(hours=6)
"""When a client may ask again (RFC 9773 4.3.2)."""
_TO_BE_RENEWED = frozenset({CertificateState.ISSUED, CertificateState.ACTIVE, CertificateState.EXPIRED_GRACE})


async def renewal_info(context: Context, name: CertificateName) -> Suggested:
    """Return the window in which a certificate is to be renewed; for one that is revoked, it is over.

    Raises:
        NotFoundError: there is none of this name, or nothing is renewed from it.
    """
    row = await context.store.read(load_certificate, name.serial)
    if row is None or row.signed is None or row.signed.issuer != name.issuer or row.identity is None:
        raise NotFoundError("there is no certificate of a device of this name")
    if row.state is CertificateState.REVOKED:
        # RFC 9773 4.2: a window in the past asks for another certificate at once.
        begins = row.signed.not_before
        return Suggested(start=begins, end=begins + timedelta(seconds=1))
    if row.state not in _TO_BE_RENEWED:
        raise NotFoundError("nothing is renewed from this certificate")
    due = await due_at(context, row, row.signed)
    return suggested(due, not_before=row.signed.not_before, not_after=row.signed.not_after)
