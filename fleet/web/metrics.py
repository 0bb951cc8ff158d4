"""`/metrics` in Prometheus' text format: the fleet as the store has it now, and what this process has done.

No label names a device: there may be a million of them, and the page is no place to look one up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector

from fleet.core.delivery import DeliveryState
from fleet.model import Role
from fleet.ra.authority.authority_views import AuthorityView, list_views
from fleet.ra.campaigns.views import View, open_views
from fleet.ra.context import Context
from fleet.ra.health import Health, health
from fleet.ra.history import History
from fleet.ra.meter import BOUNDS, Durations, Meter
from fleet.ra.telling.reading import counts
from fleet.web import notification_metrics, rollout_metrics
from fleet.web.api.routes import require
from fleet.web.api.who import operator_of
from fleet.web.gate import unauthorized_response


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What one page is made of."""

    health: Health
    authorities: Sequence[AuthorityView]
    meter: Meter
    history: History
    deliveries: Mapping[DeliveryState, int]
    rollouts: Sequence[View]

    def collect(self) -> Iterator[Metric]:
        """Yield every family (prometheus_client's interface of collectors)."""
        yield from _fleet(self.health)
        yield from _broker(self.health)
        yield from _authorities(self.authorities)
        yield from _work(self.meter)
        yield from rollout_metrics.families(self.rollouts)
        yield from _connections(self.history)
        yield from notification_metrics.families(self.meter, self.deliveries)


def mount(app: web.Application, context: Context) -> None:
    """Add the page for operators: whoever may view the fleet."""

    async def shown(request: web.Request) -> web.Response:
        operator = await operator_of(request, context)
        if operator is None:
            return unauthorized_response()
        require(operator, Role.VIEWER)
        return await _page(context)

    app.router.add_get("/metrics", shown)


def mount_open(app: web.Application, context: Context) -> None:
    """Add the page for whoever can reach the listener, which is bound to loopback."""

    async def shown(_request: web.Request) -> web.Response:
        return await _page(context)

    app.router.add_get("/metrics", shown)


async def _page(context: Context) -> web.Response:
    reading = Reading(
        health=await health(context),
        authorities=await list_views(context),
        meter=context.meter,
        history=context.history,
        deliveries=await counts(context),
        rollouts=await open_views(context),
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(reading)
    ProcessCollector(registry=registry)
    headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
    return web.Response(body=generate_latest(registry), headers=headers)


def _fleet(health: Health) -> Iterator[Metric]:
    devices = GaugeMetricFamily("fleet_devices", "Devices on record, by standing.", labels=["standing"])
    for standing, count in health.records.standings:
        devices.add_metric([standing.value], count)
    yield devices
    records = health.records
    yield _gauge("fleet_certificates_admitted", "Certificates that brokers let in.", records.admitted)
    yield _gauge(
        "fleet_certificates_ending_soon",
        "Certificates let in that end within a week, up to 1000: their renewal is late.",
        records.ending_soon,
    )
    yield _gauge("fleet_requests_waiting", "Requests that wait for approval, up to 1000.", records.waiting)
    entries = CounterMetricFamily("fleet_audit_entries", "Entries of the audit trail.")
    entries.add_metric([], records.audit_entries)
    yield entries


def _broker(health: Health) -> Iterator[Metric]:
    yield _gauge("fleet_serving", "1: listeners and broker run, and requests are answered.", health.serving)
    if health.sessions is not None:
        yield _gauge("fleet_broker_sessions", "Connections at the brokers.", health.sessions)
    if health.list_age is not None:
        yield _gauge(
            "fleet_broker_list_age_seconds",
            "Since the brokers' list was last proven right.",
            health.list_age.total_seconds(),
        )
    if health.crls_until is not None:
        yield _gauge(
            "fleet_crls_next_update_timestamp_seconds",
            "The earliest nextUpdate of the revocation lists in force.",
            health.crls_until.timestamp(),
        )
    yield _gauge("fleet_unsigned", "Domains and purposes for which no CA signs.", len(health.unsigned))


def _authorities(views: Sequence[AuthorityView]) -> Iterator[Metric]:
    labels = ["name", "state"]
    ends = GaugeMetricFamily(
        "fleet_authority_not_after_timestamp_seconds", "When a CA's certificate ends.", labels=labels
    )
    leaves = GaugeMetricFamily(
        "fleet_authority_leaves", "Certificates below a CA that have not ended.", labels=labels
    )
    for view in views:
        named = [view.record.folder, view.record.state.value]
        leaves.add_metric(named, view.leaves)
        if view.certificate is not None:
            ends.add_metric(named, view.certificate.not_valid_after_utc.timestamp())
    yield ends
    yield leaves


def _work(meter: Meter) -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "fleet_requests", "Requests answered, by kind and outcome.", labels=["kind", "outcome"]
    )
    for (kind, outcome), count in meter.answers.items():
        answers.add_metric([kind, outcome], count)
    yield answers
    took = HistogramMetricFamily("fleet_request_seconds", "From a request to its answer.", labels=["kind"])
    for kind, durations in meter.durations.items():
        took.add_metric([kind], _buckets(durations), durations.seconds)
    yield took
    cut_offs = HistogramMetricFamily(
        "fleet_revocation_cut_off_seconds", "From the commit of a revocation to its last session's end."
    )
    cut_offs.add_metric([], _buckets(meter.cut_offs), meter.cut_offs.seconds)
    yield cut_offs


def _connections(history: History) -> Iterator[Metric]:
    refused = CounterMetricFamily(
        "fleet_connections_refused", "Connections refused, by who saw it and why.", labels=["place", "cause"]
    )
    for (place, cause), count in history.refusals.items():
        refused.add_metric([place, cause.value], count)
    yield refused
    lost = CounterMetricFamily(
        "fleet_connections_not_kept", "Contacts that came too fast for the connection history."
    )
    lost.add_metric([], history.lost)
    yield lost


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    """Return the classes as Prometheus has them: each holds those below it."""
    bounds = [*map(str, BOUNDS), "+Inf"]
    sums = [sum(durations.classes[: place + 1]) for place in range(len(bounds))]
    return [(bound, float(count)) for bound, count in zip(bounds, sums, strict=True)]


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=float(value))
