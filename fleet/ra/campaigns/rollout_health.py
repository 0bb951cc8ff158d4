"""What the doctor knows of rollouts: those that stand still, and those that go on beyond their end."""

from fleet.core.rollout import RolloutState
from fleet.ra.campaigns.views import View, open_views
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good


async def rollouts(context: Context) -> list[Finding]:
    """A halted rollout waits for somebody; none is no finding at all."""
    views = await open_views(context)
    found = [problem for view in views if (problem := _problem(context, view)) is not None]
    if found or not views:
        return found
    return [good("rollouts", f"{len(views)} under way or planned, none halted")]


def _problem(context: Context, view: View) -> Finding | None:
    rollout = view.rollout
    name, fix = rollout.plan.name, f"fleet rollout status {rollout.plan.name}"
    if rollout.state is RolloutState.HALTED:
        return bad("rollouts", f"{name} is halted: {rollout.reason or 'by an operator'}", fix=fix)
    ends = rollout.plan.ends
    if rollout.state is RolloutState.RUNNING and ends is not None and context.clock() > ends:
        return bad("rollouts", f"{name} was to end by {ends:%Y-%m-%d %H:%MZ}, and runs", fix=fix)
    if rollout.state is RolloutState.RUNNING and view.judgement and view.judgement.rule == "too few":
        return bad("rollouts", f"{name} waits: {view.judgement.reason}", fix=fix)
    return None
