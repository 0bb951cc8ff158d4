"""AWS IoT Fleet Provisioning: devices enroll with AWS SDKs as they are, over MQTT 3.1.1 or 5.

It translates to the use cases and back, and decides nothing. The broker tells which connection asks, by which
claim certificate, and hands the answer to that connection alone. No key is made here: `create` is refused.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.channels.aws_payload import (
    Asked,
    Format,
    Payload,
    encode,
    read_create,
    read_register,
)
from fleet.channels.mqtt import Answer, Answerer
from fleet.core import isolation
from fleet.core.isolation import SharedLink
from fleet.errors import FleetError, NotFoundError, RefusedError, log_level, problem_code
from fleet.ra.context import Context
from fleet.ra.refusals import record_provisioning_refusal
from fleet.ra.requests.provisioning import create_certificate
from fleet.ra.requests.registering import Registration, register_thing
from fleet.ra.requests.requester import Requester
from fleet.ra.shown import ShownCertificate

REQUEST_TOPICS = ((isolation.REQUESTS, 0),)
"""At most once: a request may hold a token, and what a broker keeps for us it may write to its disk."""

_TOPIC = re.compile(
    r"\$aws/(?:certificates/(?P<verb>create-from-csr|create)"
    r"|provisioning-templates/(?P<template>[^/]*)/provision)/(?P<format>[^/]*)"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What `rejected` says: a status as of HTTP, a word, and a sentence."""

    status: int
    word: str


_INVALID_CSR = Fault(status=400, word="InvalidCertificateSigningRequest")
_INVALID_PAYLOAD = Fault(status=400, word="InvalidPayload")
_INVALID_TOKEN = Fault(status=400, word="InvalidCertificateOwnershipToken")
_DENIED = Fault(status=403, word="AccessDenied")
_NOT_FOUND = Fault(status=404, word="ResourceNotFound")
_CONFLICT = Fault(status=409, word="ResourceConflict")
_THROTTLED = Fault(status=429, word="Throttling")
_FAILED = Fault(status=500, word="InternalFailure")
_UNAVAILABLE = Fault(status=503, word="ServiceUnavailable")

FAULTS: dict[ProblemCode, Fault] = {
    ProblemCode.MALFORMED: _INVALID_PAYLOAD,
    ProblemCode.TOO_LARGE: _INVALID_PAYLOAD,
    ProblemCode.UNSUPPORTED_VERSION: _INVALID_PAYLOAD,
    ProblemCode.UNSUPPORTED_TYPE: _INVALID_PAYLOAD,
    ProblemCode.BAD_CSR: _INVALID_CSR,
    ProblemCode.BAD_KEY: _INVALID_CSR,
    ProblemCode.KEY_IN_USE: _CONFLICT,
    ProblemCode.BAD_IDENTITY: _DENIED,
    ProblemCode.NOT_ALLOWED: _DENIED,
    ProblemCode.CODE_INVALID: _INVALID_TOKEN,
    ProblemCode.CODE_CONFLICT: _DENIED,
    ProblemCode.NOT_CURRENT: _CONFLICT,
    ProblemCode.UNKNOWN_DEVICE: _NOT_FOUND,
    ProblemCode.REVOKED: _DENIED,
    ProblemCode.SUSPENDED: _DENIED,
    ProblemCode.FROZEN: _DENIED,
    ProblemCode.BUSY: _THROTTLED,
    ProblemCode.RATE_LIMITED: _THROTTLED,
    ProblemCode.UNAVAILABLE: _UNAVAILABLE,
}
"""Complete, by test; a new problem must get its word here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request of one connection."""

    context: Context
    link: SharedLink
    verb: str
    template: str
    asked: Asked

    def requester(self) -> Requester:
        shown = ShownCertificate(issuer=self.link.issuer, serial=self.link.serial)
        return Requester(claim=shown, client_id=self.link.client_id, connection=self.link.name)


def answerer(context: Context) -> Answerer:
    """Return what answers every message on the topics of AWS."""

    async def answer_message(topic: str, body: bytes) -> Answer | None:
        try:
            link, shared = isolation.parse_request(topic)
        except MalformedMessageError:
            _log.warning("a request came on a topic that nobody may use: %r", topic[:256])
            return None
        found = _TOPIC.fullmatch(shared)
        if found is None:
            return None
        form = Format.of(found["format"])
        verb, template = found["verb"] or "register", found["template"] or ""
        asked = Asked(format=form, body=body)
        call = _Call(context=context, link=link, verb=verb, template=template, asked=asked)
        outcome, payload = await _guarded(call, known=found["format"] in set(Format))
        return Answer(topic=link.answer(f"{shared}/{outcome}"), body=encode(payload, form))

    return answer_message


def beside(own: Answerer, aws: Answerer) -> Answerer:
    """Return one answerer of two: what came by a single connection of an AWS client goes to `aws`."""

    async def answer_message(topic: str, body: bytes) -> Answer | None:
        return await (aws if topic.startswith(isolation.INSIDE) else own)(topic, body)

    return answer_message


async def _guarded(call: _Call, *, known: bool) -> tuple[str, Payload]:
    """Turn what goes wrong into `rejected`; the service goes on."""
    try:
        if not known:
            raise MalformedMessageError("the last level of the topic must be json or cbor")
        return "accepted", await _VERBS[call.verb](call)
    except MalformedMessageError as error:
        return "rejected", _rejection(_INVALID_PAYLOAD, str(error))
    except (RefusedError, NotFoundError) as error:
        requester = call.requester()
        await record_provisioning_refusal(
            call.context, requester.asker, call.verb, error, connection=requester.connection
        )
        return "rejected", _rejection(FAULTS[problem_code(error)], str(error))
    except FleetError as error:
        _log.log(log_level(error), "%s of %s: %s", call.verb, call.link.name, error)
        return "rejected", _rejection(FAULTS[problem_code(error)], "the server cannot do this now")
    except Exception:  # noqa: BLE001 - the outermost edge of one request; others must not suffer from it
        _log.exception("%s of %s failed", call.verb, call.link.name)
        return "rejected", _rejection(_FAILED, "the server failed over this request")


def _rejection(fault: Fault, message: str) -> Payload:
    return {"statusCode": fault.status, "errorCode": fault.word, "errorMessage": message}


async def _create_from_csr(call: _Call) -> Payload:
    made = await create_certificate(call.context, call.requester(), csr_pem=read_create(call.asked))
    return {
        "certificateId": made.certificate_id,
        "certificatePem": made.certificate_pem,
        "certificateOwnershipToken": made.token.reveal(),
    }


async def _create(_call: _Call) -> Payload:
    raise RefusedError(
        "keys are made on the device and stay there: use create-from-csr",
        hint="in the SDK: CreateCertificateFromCsr",
    )


async def _register(call: _Call) -> Payload:
    asked = read_register(call.asked)
    registration = Registration(template=call.template, token=asked.token, parameters=asked.parameters)
    thing = await register_thing(call.context, call.requester(), registration)
    return {"thingName": thing.name, "deviceConfiguration": dict(thing.configuration)}


_VERBS: dict[str, Callable[[_Call], Awaitable[Payload]]] = {
    "create-from-csr": _create_from_csr,
    "create": _create,
    "register": _register,
}
