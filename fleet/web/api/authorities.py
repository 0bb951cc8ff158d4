"""Operators' routes of authorities: roots and issuing CAs, and where each stands."""

import base64

from cryptography import x509

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.token_uri import TokenUri
from fleet.ca.described import describe
from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM, OWN_REALMS
from fleet.ca.imported import MOST_BYTES
from fleet.ca.issuer import fingerprint_of
from fleet.ca.token_keys import parse_token
from fleet.errors import RefusedError
from fleet.model import Purpose, Role
from fleet.ra.authority import authorities, authority_views, root_lists
from fleet.ra.authority.authority_views import AuthorityView
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.ra.authority.root_lists import LARGEST
from fleet.ra.people.operators import LOCAL
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_MOST_ROOM = 100_000_000
_LONGEST_URI = 2048
_OF_CERTIFICATE = (
    *("subject", "signed_by", "not_before", "fingerprint"),
    *("key_type", "serial", "signature", "path_length"),
)
_LISTS_OF_CERTIFICATE = ("lists_at", "status_at", "uses", "constraints")


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (*_reading(), *_certifying(), *_acting())


def _reading() -> tuple[Route, ...]:
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


def _certifying() -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            path="authorities",
            role=Role.SECURITY,
            handler=_request,
            about="Make the key of an issuing CA, and the request that a CA above is to sign.",
            body=("domain", "purpose", "room", "token"),
            needs=frozenset({"purpose"}),
            answer=One("AuthorityRequest"),
        ),
        Route(
            method="POST",
            path="authorities/{name}/certificate",
            role=Role.SECURITY,
            handler=_certify,
            about="Hand in the certificate chain that was made of a request; the CA stands by then.",
            body=("chain", "anchor"),
            needs=frozenset({"chain"}),
            answer=One("AuthorityDetails"),
        ),
    )


def _acting() -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            path="authorities/{name}/list",
            role=Role.SECURITY,
            handler=_order_list,
            about="What the next revocation list of a root is to name, for whoever has its key.",
            answer=One("ListOrder"),
        ),
        Route(
            method="POST",
            path="authorities/{name}/crl",
            role=Role.SECURITY,
            handler=_take_list,
            about="Hand in the list of a CA whose key is elsewhere; without one, make an issuing CA's anew.",
            body=("crl",),
            longest=2 * LARGEST,
            answer=One("TakenList"),
        ),
        Route(
            method="POST",
            path="authorities/{name}/activate",
            role=Role.SECURITY,
            handler=_activate,
            about="Let an issuing CA sign, beside those that do.",
            answer=One("AuthorityDetails"),
        ),
        Route(
            method="POST",
            path="authorities/{name}/room",
            role=Role.SECURITY,
            handler=_limit,
            about="Say how many leaves an issuing CA should have at most; without a number, no bound.",
            body=("room",),
            answer=One("AuthorityDetails"),
        ),
        Route(
            method="POST",
            path="authorities/{name}/stop",
            role=Role.SECURITY,
            handler=_stop,
            about="Let an issuing CA sign nothing new; what it signed is good until its end.",
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
    return details(await authority_views.show(asked.context, _name(asked)))


async def _request(asked: Asked) -> Members:
    body, context = asked.body(), asked.context
    purpose = body.word("purpose", of=Purpose)
    order = AuthorityOrder(
        realm=_realm(purpose, body.text("domain", longest=32) if "domain" in body else ""),
        purpose=purpose,
        room=_room(body),
        token=_token(asked, body.text("token", longest=_LONGEST_URI)) if "token" in body else None,
        actor=asked.actor,
    )
    requested = await request_authority(context, order)
    view = await authority_views.show(context, requested.record.folder)
    return {
        **details(view),
        "csr": requested.csr_pem,
        "common_name": requested.common_name,
        "status_url": context.endpoints.status_url,
    }


def _token(asked: Asked, uri: str) -> TokenUri:
    """Return the token for a key: its URI names a library to be loaded, and that is the home's owner's."""
    if asked.operator.name != LOCAL:
        raise RefusedError(
            "a token is named on the server's own machine", hint="run fleet ca add there, without --server"
        )
    return parse_token(uri)


def _realm(purpose: Purpose, domain: str) -> str:
    if (purpose is Purpose.DEVICE) != bool(domain):
        raise MalformedMessageError("a device CA is of a domain, and no other is")
    if domain:
        return parse_domain(domain)
    return BOOTSTRAP_REALM if purpose is Purpose.CLAIM else FLEET_REALM


async def _certify(asked: Asked) -> Members:
    body = asked.body()
    certification = Certification(
        name=_name(asked),
        chain_pem=body.any_text("chain", longest=MOST_BYTES),
        anchor_pem=body.any_text("anchor", longest=MOST_BYTES) if "anchor" in body else "",
        actor=asked.actor,
    )
    record = await certify_authority(asked.context, certification)
    return details(await authority_views.show(asked.context, record.folder))


async def _activate(asked: Asked) -> Members:
    asked.body()
    record = await authorities.activate_authority(asked.context, _name(asked), actor=asked.actor)
    return details(await authority_views.show(asked.context, record.folder))


async def _stop(asked: Asked) -> Members:
    asked.body()
    record = await authorities.stop_authority(asked.context, _name(asked), actor=asked.actor)
    return details(await authority_views.show(asked.context, record.folder))


async def _limit(asked: Asked) -> Members:
    record = await authorities.limit_authority(
        asked.context, _name(asked), room=_room(asked.body()), actor=asked.actor
    )
    return details(await authority_views.show(asked.context, record.folder))


def _room(body: Fields) -> int | None:
    return body.integer("room", lowest=1, highest=_MOST_ROOM) if "room" in body else None


async def _order_list(asked: Asked) -> Members:
    asked.body()
    order = await root_lists.order_list(asked.context, _name(asked))
    return {
        "name": order.root.record.folder,
        "issuer": order.root.issuer_id,
        "anchor": order.root.anchor,
        "number": order.number,
        "revoked": order.entries.count,
        "entries": base64.b64encode(order.entries.der).decode(),
    }


async def _take_list(asked: Asked) -> Members:
    body = asked.body()
    if "crl" in body:
        encoded = body.base64("crl", longest=LARGEST)
        taken = await root_lists.take_list(asked.context, _name(asked), encoded, actor=asked.actor)
    else:
        taken = await root_lists.publish_list(asked.context, _name(asked))
    return {
        "issuer": taken.issuer,
        "number": taken.crl.number,
        "revoked": len(taken.crl.serials),
        "this_update": time_text(taken.crl.this_update),
        "next_update": time_text(taken.crl.next_update),
    }


def _name(asked: Asked) -> str:
    return asked.request.match_info["name"]


def summary(view: AuthorityView) -> Members:
    """Return a CA as lists show it."""
    record, certificate = view.record, view.certificate
    return {
        "name": record.folder,
        "kind": "root" if record.is_root else "issuing",
        "realm": record.realm,
        "purpose": None if record.is_root else record.purpose.value,
        "domain": None if record.realm in OWN_REALMS else record.realm,
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
        return {**dict.fromkeys(_OF_CERTIFICATE), **{name: [] for name in _LISTS_OF_CERTIFICATE}}
    said = describe(certificate)
    return {
        "key_type": said.key,
        "serial": said.serial,
        "signature": said.signature,
        "path_length": said.path_length,
        "lists_at": list(said.lists_at),
        "status_at": list(said.status_at),
        "uses": list(said.uses),
        "constraints": list(said.constraints),
        "subject": certificate.subject.rfc4514_string(),
        "signed_by": certificate.issuer.rfc4514_string(),
        "not_before": time_text(certificate.not_valid_before_utc),
        "fingerprint": fingerprint_of(certificate),
    }
