"""Operators' routes of rollovers: a root or an issuing CA is followed by another, step by step.

What a root's key signs is signed elsewhere, and comes in as material.
"""

from collections.abc import Sequence

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.trust import TrustBundle, read_bundles
from fleet.core.rollover import Insistence, Need, Rollover, RolloverEvent, next_step
from fleet.model import Role
from fleet.ra.succession import rollover, rollover_material, rollover_status, rollover_steps
from fleet.ra.succession.rollover import WorkOrder
from fleet.ra.succession.rollover_material import Material, NewRoot
from fleet.ra.succession.rollover_status import Status
from fleet.ra.succession.rollover_steps import Advanced, Mode, StepOrder
from fleet.web.api.asked import Asked, flag_of, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed

_LONGEST_NAME = 96
_MOST_ISSUING = 16
_LONGEST_CRL = 16 * 1024
_STEPS = {
    RolloverEvent.PUBLISH: "Tell all devices of a realm to trust the new root beside the old one.",
    RolloverEvent.SWITCH: "Let the new CA sign; the old one is still believed.",
    RolloverEvent.RETIRE: "Give the old CA up, once nobody needs it.",
    RolloverEvent.ABANDON: "Give the new CA up, of which nobody was told yet.",
}


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="rollovers",
            role=Role.VIEWER,
            handler=_list,
            about="Rollovers of roots and issuing CAs, by number.",
            answer=Page("Rollover"),
        ),
        Route(
            method="POST",
            path="rollovers",
            role=Role.SECURITY,
            handler=_begin,
            about="Begin a rollover of a root or an issuing CA: what is to be signed. Or rehearse it.",
            body=("name", "rehearse"),
            needs=frozenset({"name"}),
            answer=One("WorkOrder"),
        ),
        Route(
            method="GET",
            path="rollovers/{realm}",
            role=Role.VIEWER,
            handler=_status,
            about="Where the newest rollover of a realm stands, and who holds it up.",
            answer=One("RolloverStatus"),
        ),
        Route(
            method="GET",
            path="rollovers/{realm}/bundle",
            role=Role.VIEWER,
            handler=_bundle,
            about="The trust bundle of a realm that is in force, as device-agent trust takes it.",
            answer=One("TrustBundle"),
        ),
        Route(
            method="POST",
            path="rollovers/{realm}/material",
            role=Role.SECURITY,
            handler=_material,
            about="Bring what the root's key has signed for a rollover.",
            body=("certificates", "root"),
            needs=frozenset({"certificates"}),
            answer=One("Rollover"),
        ),
        *(_step_route(event, about) for event, about in _STEPS.items()),
    )


def _step_route(event: RolloverEvent, about: str) -> Route:
    async def step(asked: Asked) -> Members:
        return await _step(asked, event)

    return Route(
        method="POST",
        path=f"rollovers/{{realm}}/{event}",
        role=Role.SECURITY,
        handler=step,
        about=about,
        body=("rehearse", "anyway") if event is RolloverEvent.SWITCH else ("rehearse",),
        answer=One("RolloverStep"),
    )


async def _list(asked: Asked) -> Members:
    everything = await rollover_status.list_all(asked.context)
    found, following = page_of(everything, asked.query(), key=lambda each: f"{each.number:09d}")
    return listed([_rollover(each) for each in found], following)


async def _begin(asked: Asked) -> Members:
    body = asked.body()
    name = body.text("name", longest=_LONGEST_NAME)
    if flag_of(body, "rehearse"):
        return _work_order(asked, await rollover.rehearse(asked.context, name))
    return _work_order(asked, await rollover.begin(asked.context, name, actor=asked.actor))


async def _status(asked: Asked) -> Members:
    asked.query()
    return _told(await rollover_status.show(asked.context, _realm(asked)))


async def _bundle(asked: Asked) -> Members:
    asked.query()
    return _document(await rollover_status.bundle(asked.context, _realm(asked)))


async def _material(asked: Asked) -> Members:
    body = asked.body()
    material = Material(
        certificates=tuple(
            (one.text("name", longest=_LONGEST_NAME), one.pem("certificate"))
            for one in body.objects("certificates", most=_MOST_ISSUING)
        ),
        root=_new_root(body.object("root")) if "root" in body else None,
    )
    done = await rollover_material.complete(asked.context, _realm(asked), material, actor=asked.actor)
    return _rollover(done)


async def _step(asked: Asked, event: RolloverEvent) -> Members:
    body = asked.body()
    order = StepOrder(
        realm=_realm(asked),
        event=event,
        actor=asked.actor,
        at=asked.context.clock().replace(microsecond=0),
        insistence=Insistence.GO_ON if flag_of(body, "anyway") else Insistence.WAIT,
        mode=Mode.REHEARSE if flag_of(body, "rehearse") else Mode.ACT,
    )
    return _advanced(await rollover_steps.take_step(asked.context, order))


def _realm(asked: Asked) -> str:
    return asked.request.match_info["realm"]


def _new_root(fields: Fields) -> NewRoot:
    return NewRoot(
        certificate_pem=fields.pem("certificate"),
        crl=fields.base64("crl", longest=_LONGEST_CRL),
        link_pem=fields.pem("link"),
        back_pem=fields.pem("link_back"),
        bundles=read_bundles(fields, "bundles"),
    )


def _rollover(one: Rollover) -> Members:
    step = next_step(one)
    return {
        "number": one.number,
        "realm": one.realm,
        "kind": one.kind.value,
        "state": one.state.value,
        "gives_up": list(one.gives_up),
        "brings": list(one.brings),
        "version": one.version,
        "next": None if step is None else step.value,
        "started_at": time_text(one.started_at),
        "changed_at": time_text(one.changed_at),
    }


def _work_order(asked: Asked, order: WorkOrder) -> Members:
    requests: Sequence[Members] = [
        {
            "name": one.name,
            "purpose": one.purpose.value,
            "common_name": one.common_name,
            "csr": one.csr_pem,
        }
        for one in order.requests
    ]
    return {
        **_rollover(order.rollover),
        "fleet": asked.context.fleet,
        "status_url": asked.context.endpoints.status_url,
        "root": order.root or None,
        "root_pem": order.root_pem or None,
        "beside_pem": order.beside_pem or None,
        "links_pem": order.links_pem or None,
        "requests": requests,
        "standing_by": list(order.standing_by),
    }


def _told(status: Status) -> Members:
    return {
        **_rollover(status.rollover),
        "devices": status.heard.agents,
        "acknowledged": status.heard.acknowledged,
        "plain": status.heard.plain,
        "silent": list(status.heard.silent),
        "needed_by": status.need.count,
        "needing": list(status.need.names),
        "refused": [{"device": name, "problem": problem} for name, problem in status.refused],
        "notices_left": status.notices_left,
        "renewed_early": status.hastened,
    }


def _advanced(advanced: Advanced) -> Members:
    need: Need = advanced.need
    return {
        **_rollover(advanced.rollover),
        "changes": [
            {"name": one.name, "before": one.before.value, "after": one.after.value}
            for one in advanced.changes
        ],
        "told": advanced.told,
        "devices": advanced.heard.agents,
        "acknowledged": advanced.heard.acknowledged,
        "plain": advanced.heard.plain,
        "silent": list(advanced.heard.silent),
        "needed_by": need.count,
        "needing": list(need.names),
        "refusal": advanced.refusal or None,
    }


def _document(bundle: TrustBundle) -> Members:
    return {
        "v": 1,
        "type": "trust",
        "realm": bundle.realm,
        "version": bundle.version,
        "anchors": bundle.anchors,
        "links": bundle.links,
        "signature": bundle.signature.hex(),
    }
