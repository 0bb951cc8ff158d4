"""Rollouts on the page of metrics: those that are not over, and how their devices stand."""

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from fleet.ra.campaigns.views import View


def families(views: Sequence[View]) -> Iterator[Metric]:
    """Yield the families of rollouts."""
    states = GaugeMetricFamily(
        "fleet_rollout_state", "1: the rollout stands so.", labels=["rollout", "kind", "state"]
    )
    devices = GaugeMetricFamily(
        "fleet_rollout_devices", "Devices of a rollout, by where they stand.", labels=["rollout", "state"]
    )
    waves = GaugeMetricFamily("fleet_rollout_wave", "The wave that is under way.", labels=["rollout"])
    ends = GaugeMetricFamily(
        "fleet_rollout_latest_end_timestamp_seconds",
        "When a rollout is over at the latest, if no gate halts it.",
        labels=["rollout"],
    )
    for view in views:
        plan = view.rollout.plan
        states.add_metric([plan.name, plan.kind.value, view.rollout.state.value], 1)
        waves.add_metric([plan.name], view.rollout.wave)
        for state, count in view.total.by_state():
            devices.add_metric([plan.name, state.value], count)
        if view.course is not None:
            ends.add_metric([plan.name], view.course.latest.timestamp())
    yield from (states, devices, waves, ends)
