"""Opens the tracer that the configuration names; without one nothing of OpenTelemetry is imported."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleet.errors import BadInputError
from fleet.ra.tracing import NO_TRACER, Tracer
from fleet.watching_sections import TracingConfig


@asynccontextmanager
async def tracing(config: TracingConfig | None, *, fleet: str) -> AsyncIterator[Tracer]:
    """Yield the tracer.

    Raises:
        BadInputError: the configuration names a collector, and OpenTelemetry is not installed.
    """
    if config is None:
        yield NO_TRACER
        return
    try:
        from fleet import otel  # noqa: PLC0415 - an extra, needed here only
    except ImportError as error:
        raise BadInputError(
            "[tracing] in fleet.toml needs OpenTelemetry", hint="pip install 'fleet-provisioning[otel]'"
        ) from error
    async with otel.opened(config, fleet=fleet) as tracer:
        yield tracer
