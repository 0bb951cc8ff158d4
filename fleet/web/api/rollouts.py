"""Operators' routes of rollouts: plans handed in, orders given, and where each stands."""

from device_agent.wire.identity import parse_domain
from fleet.core.rollout import DeviceState, RolloutEvent, RolloutState, Tally
from fleet.core.rollout_plan import Course, Rollout, RolloutWave
from fleet.model import Role
from fleet.ra.campaigns import orders, planning, views
from fleet.ra.campaigns.orders import Insistence, Order
from fleet.ra.campaigns.plan_file import LONGEST_PLAN, read_plan
from fleet.ra.campaigns.planning import Planned, PlanOrder, Saving
from fleet.ra.campaigns.views import View
from fleet.store.rollout_devices import Page as DevicePage
from fleet.store.rollout_devices import RolloutDevice
from fleet.web.api.asked import Asked, flag_of
from fleet.web.api.routes import Members, One, Page, Route, listed, require, time_or_none

_LONGEST_REASON = 512
_MOST_WAVES = 32
_HIGHEST = 2**53
_ORDERS = {
    RolloutEvent.START: "Begin with the pilot; over many devices a second operator is asked for.",
    RolloutEvent.PAUSE: "Tell nobody more for now; who was told goes on, and is judged.",
    RolloutEvent.RESUME: "Go on after a pause; after a halt by failures only in spite of them, `anyway`.",
    RolloutEvent.HALT: "Stop: tell nobody more, and judge nothing.",
    RolloutEvent.ROLL_BACK: "Take back what was halted, where that has a meaning.",
    RolloutEvent.ABANDON: "Give a rollout up as it stands; its devices are free for others.",
}


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="rollouts",
            role=Role.VIEWER,
            handler=_list,
            about="Rollouts, the newest first.",
            query=("rollout_state",),
            answer=Page("Rollout"),
        ),
        Route(
            method="POST",
            path="rollouts",
            role=Role.OPERATOR,
            handler=_plan,
            about="Check and save the plan of a rollout, or only check it; all its faults are told at once.",
            body=("plan", "rehearse"),
            needs=frozenset({"plan"}),
            answer=One("PlannedRollout"),
        ),
        Route(
            method="GET",
            path="rollouts/{name}",
            role=Role.VIEWER,
            handler=_show,
            about="Where a rollout stands: its waves, what its gate says, and when it would be over.",
            answer=One("RolloutView"),
        ),
        Route(
            method="GET",
            path="rollouts/{name}/devices",
            role=Role.VIEWER,
            handler=_devices,
            about="The devices of a rollout, and where each stands.",
            query=("wave", "rollout_device_state"),
            answer=Page("RolloutDevice"),
        ),
        *(_order_route(event, about) for event, about in _ORDERS.items()),
    )


def _order_route(event: RolloutEvent, about: str) -> Route:
    async def order(asked: Asked) -> Members:
        return await _order(asked, event)

    resumes = event is RolloutEvent.RESUME
    return Route(
        method="POST",
        path=f"rollouts/{{name}}/{event}",
        role=Role.OPERATOR,
        handler=order,
        about=about,
        body=("version", "reason", "anyway") if resumes else ("version", "reason"),
        needs=frozenset({"version"}),
        answer=One("Rollout"),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    limit = query.limit()
    before = query.number("after", default=_HIGHEST, lowest=1, highest=_HIGHEST)
    state = query.word("rollout_state", of=RolloutState)
    found = await views.list_rollouts(asked.context, state=state, before=before, limit=limit)
    following = str(found[-1].number) if len(found) == limit else None
    return listed([_rollout(one) for one in found], following)


async def _plan(asked: Asked) -> Members:
    body = asked.body()
    saving = Saving.REHEARSE if flag_of(body, "rehearse") else Saving.SAVE
    text = body.any_text("plan", longest=LONGEST_PLAN)
    require(asked.operator, orders.ROLES[read_plan(text).kind])
    order = PlanOrder(text=text, actor=asked.actor, saving=saving)
    return _planned(await planning.plan_rollout(asked.context, order))


async def _show(asked: Asked) -> Members:
    asked.query()
    return _view(await views.show(asked.context, _name(asked)))


async def _devices(asked: Asked) -> Members:
    query = asked.query()
    domain, _, device_id = query.text("after").partition(":")
    page = DevicePage(
        rollout=0,
        wave=query.number("wave", default=0, lowest=1, highest=_MOST_WAVES),
        state=query.word("rollout_device_state", of=DeviceState),
        after=(domain, device_id),
        limit=query.limit(),
    )
    found = await views.list_devices(asked.context, _name(asked), page)
    following = found[-1].identity.name if len(found) == page.limit else None
    return listed([_device(one) for one in found], following)


async def _order(asked: Asked, event: RolloutEvent) -> Members:
    body = asked.body()
    order = Order(
        name=_name(asked),
        event=event,
        actor=asked.actor,
        seen=body.integer("version", lowest=1, highest=_HIGHEST),
        reason=body.text("reason", longest=_LONGEST_REASON) if "reason" in body else "",
        insistence=Insistence.GO_ON if flag_of(body, "anyway") else Insistence.WAIT,
    )
    if event in orders.LEADS_ON:
        view = await views.show(asked.context, order.name)
        require(asked.operator, orders.ROLES[view.rollout.plan.kind])
    return _rollout(await orders.give_order(asked.context, order))


def _name(asked: Asked) -> str:
    return parse_domain(asked.request.match_info["name"])


def _rollout(one: Rollout) -> Members:
    return {
        "number": one.number,
        "name": one.plan.name,
        "kind": one.plan.kind.value,
        "target": one.plan.target or None,
        "select": one.plan.select,
        "state": one.state.value,
        "version": one.version,
        "wave": one.wave,
        "waves": len(one.plan.waves),
        "reason": one.reason or None,
        "planned_by": one.planned_by,
        "planned_at": time_or_none(one.planned_at),
        "started_at": time_or_none(one.started_at),
        "changed_by": one.changed_by,
        "changed_at": time_or_none(one.changed_at),
    }


def _planned(planned: Planned) -> Members:
    names = [(wave.name, str(wave.size)) for wave in planned.plan.waves]
    return {
        "name": planned.plan.name,
        "kind": planned.plan.kind.value,
        "target": planned.plan.target or None,
        "select": planned.plan.select,
        "saved": planned.rollout is not None,
        "devices": planned.devices,
        "left_out": [{"reason": reason, "devices": count} for reason, count in planned.left_out],
        "planned_waves": [
            {"name": name, "size": size, "devices": count}
            for (name, size), count in zip(names, planned.waves, strict=True)
        ],
        **_course(planned.course),
    }


def _view(view: View) -> Members:
    gate = view.rollout.plan.gate
    return {
        **_rollout(view.rollout),
        "devices": view.total.size,
        **_tally(view.total),
        "told_waves": [_wave(wave) for wave in view.waves],
        "verdict": None if view.judgement is None else view.judgement.verdict.value,
        "rule": None if view.judgement is None else view.judgement.rule,
        "because": None if view.judgement is None else view.judgement.reason,
        "gate": {
            "updated": gate.updated,
            "failed": gate.failed,
            "least": gate.least,
            "patience_seconds": int(gate.patience.total_seconds()),
            "soak_seconds": int(gate.soak.total_seconds()),
        },
        "rate_per_minute": view.rollout.plan.rate_per_minute,
        "windows": [str(window) for window in view.rollout.plan.windows],
        "window_is_open": view.window_is_open,
        "ends": time_or_none(view.rollout.plan.ends),
        "on_halt": view.rollout.plan.on_halt.value,
        "roll_back": view.roll_back,
        "note": view.rollout.plan.note or None,
        **_course(view.course),
    }


def _course(course: Course | None) -> Members:
    return {
        "soonest": None if course is None else time_or_none(course.soonest),
        "latest": None if course is None else time_or_none(course.latest),
    }


def _wave(wave: RolloutWave) -> Members:
    return {
        "wave": wave.number,
        "name": wave.name,
        "devices": wave.standing.tally.size,
        **_tally(wave.standing.tally),
        "forgiven": wave.standing.forgiven,
        "began_at": time_or_none(wave.began_at),
        "settled_at": time_or_none(wave.standing.settled_at),
        "passed_at": time_or_none(wave.passed_at),
    }


def _tally(tally: Tally) -> Members:
    return {state.value: count for state, count in tally.by_state()}


def _device(one: RolloutDevice) -> Members:
    return {
        "domain": one.identity.domain,
        "device_id": one.identity.device_id,
        "wave": one.wave,
        "state": one.facts.state.value,
        "reason": one.reason or None,
        "serial": one.facts.serial or None,
        "told_at": time_or_none(one.facts.told_at),
        "last_seen_at": time_or_none(one.facts.seen_at),
    }
