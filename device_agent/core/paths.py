"""Walks a certificate path that is for no TLS connection: a station's, or the domain's time key's.

It never believes a chain that ends nowhere. What its leaf is for, whoever asks must judge.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509

from device_agent.core.certificates import UNREADABLE
from device_agent.core.issuing import is_issued_by, is_valid_at
from device_agent.errors import UnacceptableAnswerError


def require_path(
    path: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    *,
    now: datetime | None,
    whose: str,
) -> None:
    """Walk up from the leaf; each step is signed by the next, until an anchor signed (RFC 5280 6.1).

    With `now` None the dates are not looked at. `whose` names the leaf's owner in errors.

    Raises:
        UnacceptableAnswerError: it leads to no anchor, or a step must not be taken.
    """
    for height, certificate in enumerate(path):
        _require_dates(certificate, now, whose)
        if height:
            _require_authority(certificate, below=height - 1, whose=whose)
        for anchor in anchors:
            if is_issued_by(certificate, anchor):
                _require_dates(anchor, now, whose)
                _require_authority(anchor, below=height, whose=whose)
                return
        if height + 1 < len(path) and not is_issued_by(certificate, path[height + 1]):
            break
    raise UnacceptableAnswerError(
        f"the {whose}'s certificate leads to no trust anchor of this device", hint="give it with --trust"
    )


def _require_dates(certificate: x509.Certificate, now: datetime | None, whose: str) -> None:
    if now and not is_valid_at(certificate, now):
        raise UnacceptableAnswerError(
            f"a certificate of the {whose} is not valid at this time", hint="check the clocks of both"
        )


def _require_authority(certificate: x509.Certificate, *, below: int, whose: str) -> None:
    """RFC 5280 4.2.1.9: a CA says so, and how many CAs may stand below it."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*UNREADABLE, LookupError, x509.ExtensionNotFound) as error:
        raise UnacceptableAnswerError(f"the {whose}'s certificate comes from one that is no CA") from error
    if not constraints.ca or (constraints.path_length is not None and constraints.path_length < below):
        raise UnacceptableAnswerError(f"the {whose}'s certificate comes from one that is no CA for it")
