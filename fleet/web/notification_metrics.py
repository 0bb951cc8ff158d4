"""What Prometheus is shown of notifications: whether people are reached."""

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from fleet.core.delivery import DeliveryState
from fleet.ra.meter import Meter

_OUTSTANDING = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.DEAD)


def families(meter: Meter, deliveries: Mapping[DeliveryState, int]) -> Iterator[Metric]:
    """Yield the attempts of this process, and how many deliveries are not done."""
    tried = CounterMetricFamily(
        "fleet_notifications",
        "Attempts to tell people, by channel and what came of it: sent, failed, dead.",
        labels=["channel", "outcome"],
    )
    for (channel, outcome), count in meter.notifications.items():
        tried.add_metric([channel, outcome], count)
    yield tried
    outstanding = GaugeMetricFamily(
        "fleet_notifications_outstanding",
        "Deliveries that wait, are under way, or were given up and nobody has acknowledged.",
        labels=["state"],
    )
    for state in _OUTSTANDING:
        outstanding.add_metric([state.value], deliveries.get(state, 0))
    yield outstanding
