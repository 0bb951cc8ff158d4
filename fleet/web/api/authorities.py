"""Operators' routes of authorities: roots and issuing CAs, and where each stands."""

from cryptography import x509

from device_agent.wire.fields import time_text
from fleet.ca.issuer import fingerprint_of
from fleet.model import Role
from fleet.ra import authority_views
from fleet.ra.authority_views import AuthorityView
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="authorities",
            role=Role.VIEWER,
            handler=_list,
            about="Roots and issuing CAs, by name; those that wait for their certificates too.",
            answer=Page("Authority"),
        ),
        Route(
            method="GET",
            path="authorities/{name}",
            role=Role.VIEWER,
            handler=_show,
            about="One root or issuing CA, with its certificate chain.",
            answer=One("AuthorityDetails"),
        ),
    )


async def _list(asked: Asked) -> Members:
    found, following = page_of(
        await authority_views.list_views(asked.context), asked.query(), key=lambda view: view.record.folder
    )
    return listed([summary(view) for view in found], following)


async def _show(asked: Asked) -> Members:
    asked.query()
    return details(await authority_views.show(asked.context, asked.request.match_info["name"]))


def summary(view: AuthorityView) -> Members:
    """Return a CA as lists show it."""
    record, certificate = view.record, view.certificate
    return {
        "name": record.folder,
        "kind": "root" if record.is_root else "issuing",
        "realm": record.realm,
        "purpose": None if record.is_root else record.purpose.value,
        "domain": record.domain or None,
        "state": record.state.value,
        "key": record.key.value,
        "issuer": record.issuer,
        "anchor": view.anchor,
        "room": record.room,
        "leaves": view.leaves,
        "not_after": None if certificate is None else time_text(certificate.not_valid_after_utc),
        "crl_until": time_or_none(view.crl_until),
        "changed_at": time_text(record.changed_at),
    }


def details(view: AuthorityView) -> Members:
    """Return all that is known of a CA."""
    return {
        **summary(view),
        "added_at": time_text(view.record.added_at),
        "chain": view.chain_pem,
        **_of_certificate(view.certificate),
    }


def _of_certificate(certificate: x509.Certificate | None) -> Members:
    if certificate is None:
        return dict.fromkeys(("subject", "signed_by", "not_before", "fingerprint"))
    return {
        "subject": certificate.subject.rfc4514_string(),
        "signed_by": certificate.issuer.rfc4514_string(),
        "not_before": time_text(certificate.not_valid_before_utc),
        "fingerprint": fingerprint_of(certificate),
    }
