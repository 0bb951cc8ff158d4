"""EST (RFC 7030, RFC 8951): devices enroll and renew with clients of other makers.

It translates to the same request and the same use case as every channel, and decides nothing. Its clients
never confirm: their first admitted connection does. Keys stay on the device where it can make them.
Answers that are no end of the matter (401 without a login, 202) have no text: BouncyCastle leaves their
bodies unread, and takes that for a broken connection.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from cryptography import x509

from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_device_id, serial_hex
from device_agent.wire.messages import Reply
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.replies import Issued, Pending, Problem
from device_agent.wire.requests import Enroll, Proof, ProofKind, Renew
from device_agent.wire.secret import Secret
from fleet.ca.cms import RANDOM_BYTES
from fleet.ca.issuer import Issuer
from fleet.channels.est_keygen import delivered, make_key, sender_of
from fleet.channels.est_login import UnfitLoginError, read_login
from fleet.channels.est_payload import UnfitBodyError, certs_only, csr_attributes, csr_pem_of, text
from fleet.core.csr import read_csr
from fleet.core.same_names import require_same_names
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError, problem_code
from fleet.exchange import HTTP_STATUS, HttpAnswer, HttpAnswerer, HttpRequest
from fleet.model import CertificateState, ClientKind, Purpose
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.issuing import profile_of
from fleet.ra.requests.answer import answer
from fleet.ra.requests.evidence import is_listed_key
from fleet.ra.shown import ShownCertificate, shown_certificate
from fleet.store.certificates import load_certificate

BUSY_SECONDS = 60
APPROVAL_HEADER = "X-Fleet-Approval-Code"
"""What an operator compares before the device is let in."""
ISSUED_HEADER = "X-Fleet-Issued"
"""Beside a certificate: where to use it, and when to renew it."""
PROBLEM_HEADER = "X-Fleet-Problem"
"""The code of the problem: a status means more than one."""
_UNSTORED = {"Cache-Control": "no-store"}

_STATUS = {
    **HTTP_STATUS,
    ProblemCode.CODE_INVALID: HTTPStatus.UNAUTHORIZED,  # RFC 7030 3.2.3: it is the password that is wrong
    ProblemCode.UNKNOWN_DEVICE: HTTPStatus.FORBIDDEN,  # the path is right, the certificate is not
}
_COME_BACK = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request for one domain."""

    context: Context
    request: HttpRequest
    domain: str
    profile: str
    """What the label names; empty where it names none."""

    def asker(self) -> Asker:
        held = self.request.certificate
        is_ours = held is not None and _purpose_of(self, held) is not None
        return Asker(
            listener=Listener.HTTPS,
            address=self.request.address,
            certificate=_shown(held),
            maker_certificate=b"" if held is None or is_ours else held,
            domain=self.domain,
            profile=self.profile,
            kind=ClientKind.PLAIN,
        )

    def new_id(self) -> str:
        return self.context.randomness(16).hex()


_Operation = Callable[[_Call], Awaitable[HttpAnswer]]


def answerer(context: Context) -> HttpAnswerer:
    """Return what answers every request below the well-known place of EST."""

    async def answer_request(request: HttpRequest) -> HttpAnswer:
        label, _, name = request.path.rpartition("/")
        place = _place_of(context, label)
        if place is None or name not in _OPERATIONS:
            return text(HTTPStatus.NOT_FOUND, "there is no such label or operation")
        method, operation = _OPERATIONS[name]
        if request.method != method:
            return text(HTTPStatus.METHOD_NOT_ALLOWED, f"{name} is asked by {method}", Allow=method)
        domain, profile = place
        call = _Call(context=context, request=request, domain=domain, profile=profile)
        return await _guarded(operation, call)

    return answer_request


def _place_of(context: Context, label: str) -> tuple[str, str] | None:
    """Return domain and profile of a label `<domain>[.<profile>]`; none is needed for the only domain."""
    if not label:
        domains = context.config.domains
        return (domains[0].name, "") if len(domains) == 1 else None
    name, dot, profile = label.partition(".")
    domain = context.config.domain(name)
    if domain is None or (dot and profile not in {one.name for one in domain.profiles}):
        return None
    return name, profile


async def _guarded(operation: _Operation, call: _Call) -> HttpAnswer:
    """Turn what goes wrong into a short text; what nobody expected, the web server logs and answers."""
    try:
        return await operation(call)
    except UnfitBodyError as error:
        return text(error.status, str(error))
    except UnfitLoginError as error:
        return _unauthorized(call, str(error))
    except MalformedMessageError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    except FleetError as error:
        return _problem(call, Problem.of("-", problem_code(error), str(error)))


async def _cacerts(call: _Call) -> HttpAnswer:
    """The domain's CAs, and the root by which devices trust the fleet's servers (RFC 7030 4.1.3)."""
    authority = call.context.authority
    admitted = [one for one in authority.admitted if one.domain == call.domain]
    issuers = [one for one in admitted if not await _is_revoked(call, one)]
    below = [certificate for one in issuers for certificate in (one.certificate, *one.chain)]
    # RFC 7030 4.1.1: clients trust EST servers by this answer from now on, and ours stand below that root.
    roots = (authority.trust_pem(call.domain) + call.context.home.server_trust.read_text()).encode()
    # RFC 7030 4.1.3, NewWithOld: who holds a root from before learns by them to believe the one of now.
    links = [one.link for one in authority.roots if one.realm == call.domain and one.link is not None]
    found = [*below, *x509.load_pem_x509_certificates(roots), *links]
    return certs_only(list(dict.fromkeys(found)))


async def _is_revoked(call: _Call, issuer: Issuer) -> bool:
    """Tell whether a CA was given up as compromised while its devices move: it is taught to nobody."""
    serial = serial_hex(issuer.certificate.serial_number)
    row = await call.context.store.read(load_certificate, serial)
    return row is not None and row.state is CertificateState.REVOKED


async def _csrattrs(call: _Call) -> HttpAnswer:
    """What a request had best look like."""
    return csr_attributes(profile_of(call.context, call.domain, call.profile).key_types)


async def _simpleenroll(call: _Call) -> HttpAnswer:
    """First certificate: by a code over HTTP basic, by a certificate of ours or a maker's, or by a key.

    A key is a proof by itself where its maker has listed it: the request is signed by it.
    """
    authorization = call.request.authorization
    is_bare = authorization is None and call.request.certificate is None
    if is_bare and not await _has_listed_key(call):
        return replace(_unauthorized(call, ""), content_type="", body=b"")
    enrollment = _enrollment(call, authorization)
    return _answered(call, await answer(call.context, call.asker(), enrollment))


def _enrollment(call: _Call, authorization: Secret | None) -> Enroll:
    login = None if authorization is None else read_login(authorization)
    csr = csr_pem_of(call.request.content_type, call.request.body)
    if login is None:
        proof = Proof(kind=_kind_of(call))
        return Enroll(id=call.new_id(), device_id=_named_by(csr), csr=csr, proof=proof)
    proof = Proof(kind=ProofKind.CODE, code=login.code)
    return Enroll(id=call.new_id(), device_id=login.device_id, csr=csr, proof=proof)


def _kind_of(call: _Call) -> ProofKind:
    held = call.request.certificate
    if held is None:
        return ProofKind.MANIFEST
    return ProofKind.IDEVID if _purpose_of(call, held) is None else ProofKind.CLAIM


async def _has_listed_key(call: _Call) -> bool:
    try:
        csr = read_csr(csr_pem_of(call.request.content_type, call.request.body))
    except (UnfitBodyError, RefusedError):
        return False  # it learns what is wrong once it says who it is
    return await is_listed_key(call.context, call.domain, csr.key_hash)


def _named_by(csr: str) -> str:
    """Return the device id of a request that has nothing else to say who it is."""
    names = read_csr(csr).common_names
    if len(names) != 1:
        raise RefusedError("the request must name the device as its common name", code=ProblemCode.BAD_CSR)
    return parse_device_id(names[0])


async def _simplereenroll(call: _Call) -> HttpAnswer:
    """Next certificate, for the names of the one that the connection shows (RFC 7030 4.2.2)."""
    held = call.request.certificate
    if held is None:
        return text(HTTPStatus.FORBIDDEN, "TLS must show the certificate to be renewed")
    return _answered(call, await answer(call.context, call.asker(), _renewal(call, held)))


def _renewal(call: _Call, held: bytes) -> Renew:
    csr = csr_pem_of(call.request.content_type, call.request.body)
    read_csr(csr)
    require_same_names(csr, certificate=held)
    return Renew(id=call.new_id(), csr=csr)


async def _serverkeygen(call: _Call) -> HttpAnswer:
    """A key of our making, and its certificate, where the profile allows it (RFC 7030 4.4)."""
    profile = profile_of(call.context, call.domain, call.profile)
    if not profile.server_key:
        return await _refuse(call)
    asked = _asked_with_key(call)
    made = make_key(asked.csr, shown=call.request.certificate, device_id=_device_of(call, asked))
    # Named, so that nobody gets by another profile what this one alone allows.
    asker = replace(call.asker(), profile=profile.name)
    reply = await answer(call.context, asker, replace(asked, csr=made.csr))
    if isinstance(reply, Pending):
        return text(HTTPStatus.FORBIDDEN, "somebody approves a key, and this one would be another each time")
    if not isinstance(reply, Issued):
        return _answered(call, reply)
    randomness = call.context.randomness(RANDOM_BYTES)
    return delivered(made, reply.certificate, sender=sender_of(call.context.home), randomness=randomness)


def _asked_with_key(call: _Call) -> Enroll | Renew:
    """Return what is asked together with a key: the first certificate, or the one after the one shown.

    Raises:
        RefusedError: what is shown is a claim certificate, whose key many devices have.
    """
    held, login = call.request.certificate, call.request.authorization
    purpose = None if held is None else _purpose_of(call, held)
    if purpose not in {None, Purpose.DEVICE}:
        raise RefusedError("a key is sent to a certificate of the device's own, not to one that many share")
    if held is not None and purpose is Purpose.DEVICE and login is None:
        return _renewal(call, held)
    return _enrollment(call, login)


def _purpose_of(call: _Call, held: bytes) -> Purpose | None:
    """Return what a certificate of ours is for; None for one of another authority."""
    shown = _shown(held)
    try:
        return None if shown is None else call.context.authority.issuer_by_id(shown.issuer).purpose
    except NotFoundError:
        return None


def _shown(held: bytes | None) -> ShownCertificate | None:
    """Name the certificate of the connection; None where there is none, or one that names no issuer.

    Ours always name it, manufacturers' need not. Raises `BadInputError` for what is no certificate.
    """
    try:
        return None if held is None else shown_certificate(held)
    except BadInputError:
        try:
            x509.load_der_x509_certificate(held or b"").extensions.get_extension_for_class(
                x509.AuthorityKeyIdentifier
            )
        except x509.ExtensionNotFound:
            return None
        except UNREADABLE:
            pass
        raise


def _device_of(call: _Call, asked: Enroll | Renew) -> str:
    return asked.device_id if isinstance(asked, Enroll) else _named_by(asked.csr)


async def _refuse(_call: _Call) -> HttpAnswer:
    """Full CMC, and keys of our making where no profile allows them: RFC 7030 3.2.2 lets both be absent."""
    return text(HTTPStatus.NOT_IMPLEMENTED, "not done here: the key is made on the device and stays there")


def _answered(call: _Call, reply: Reply) -> HttpAnswer:
    match reply:
        case Issued():
            # The leaf alone: clients take the first of several certificates, and DER sorts them.
            found = certs_only([x509.load_pem_x509_certificate(reply.certificate.encode())])
            return replace(found, headers={**found.headers, ISSUED_HEADER: _place_to_use(reply)})
        case Pending():
            # RFC 7030 4.2.3: the same request again, after a while.
            headers = {"Retry-After": str(reply.retry_after_seconds), APPROVAL_HEADER: reply.code}
            return HttpAnswer(status=HTTPStatus.ACCEPTED, headers=headers | _UNSTORED)
        case Problem():
            return _problem(call, reply)
        case _:
            return text(HTTPStatus.CONFLICT, "this key gets no certificate any more; make a new one")


def _place_to_use(issued: Issued) -> str:
    """Tell where the certificate is used and when it is due: our agent reads it, other clients do not."""
    members: dict[str, object] = {
        "broker": issued.broker.members(),
        "renew_after": time_text(issued.renew_after),
    }
    if issued.recovery is not None:
        members["recovery"] = issued.recovery.members()
    return json.dumps(members, separators=(",", ":"))


def _problem(call: _Call, problem: Problem) -> HttpAnswer:
    found = _problem_text(call, problem, _STATUS[problem.code])
    return replace(found, headers={**found.headers, PROBLEM_HEADER: problem.code})


def _problem_text(call: _Call, problem: Problem, status: HTTPStatus) -> HttpAnswer:
    if status is HTTPStatus.UNAUTHORIZED:
        return _unauthorized(call, problem.detail)
    if status in _COME_BACK:
        return text(status, problem.detail, Retry_After=str(problem.retry_after_seconds or BUSY_SECONDS))
    return text(status, problem.detail)


def _unauthorized(call: _Call, detail: str) -> HttpAnswer:
    realm = f'Basic realm="{call.context.fleet} {call.domain}"'
    return text(HTTPStatus.UNAUTHORIZED, detail, WWW_Authenticate=realm)


_OPERATIONS: dict[str, tuple[str, _Operation]] = {
    "cacerts": ("GET", _cacerts),
    "csrattrs": ("GET", _csrattrs),
    "simpleenroll": ("POST", _simpleenroll),
    "simplereenroll": ("POST", _simplereenroll),
    "serverkeygen": ("POST", _serverkeygen),
    "fullcmc": ("POST", _refuse),
}
