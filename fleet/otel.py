"""Spans by OpenTelemetry, sent with OTLP over HTTP; imported only where the configuration names a collector.

A collector that is away or hangs delays nobody: spans wait in memory, some thousands of them, and a thread
sends them; what is too much is dropped.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Self

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from fleet.ra.tracing import Tracer
from fleet.watching_sections import TracingConfig

MOST_WAITING = 4096
_SEND_SECONDS = 2.0
_CLOSE_SECONDS = 5.0
_EVERY_MS = 1000


class _Span:
    """One span; the current one while it is entered."""

    __slots__ = ("_manager", "_span")

    def __init__(self, manager: AbstractContextManager[trace.Span]) -> None:
        self._manager = manager
        self._span: trace.Span = trace.INVALID_SPAN

    def __enter__(self) -> Self:
        self._span = self._manager.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._manager.__exit__(kind, error, traceback)

    def note(self, **attributes: str | float | None) -> None:
        for name, value in attributes.items():
            if value:
                self._span.set_attribute(f"fleet.{name}", value)


class _OtelTracer:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def span(self, name: str) -> _Span:
        return _Span(self._tracer.start_as_current_span(name))


@asynccontextmanager
async def opened(config: TracingConfig, *, fleet: str) -> AsyncIterator[Tracer]:
    """Yield a tracer that sends to the collector; what waits at the end is sent, if it answers in time."""
    session = requests.Session()
    session.trust_env = False  # the collector that was named, and no proxy of the environment
    exporter = OTLPSpanExporter(
        endpoint=f"{config.collector.rstrip('/')}/v1/traces", timeout=_SEND_SECONDS, session=session
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(config.share)),
        resource=Resource({"service.name": "fleet", "service.namespace": fleet}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=_EVERY_MS)
    )
    try:
        yield _OtelTracer(provider.get_tracer("fleet"))
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.to_thread(provider.shutdown)
