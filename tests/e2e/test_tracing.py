"""Traces of requests, at a collector that reads OTLP; one that is away or hangs keeps nobody waiting."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from device_agent.wire.replies import Issued
from device_agent.wire.requests import Renew
from fleet import otel
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import live, make_live_home


@dataclass
class Collector:
    """Takes spans by OTLP over HTTP, as a real one does; unless `answers` is set it keeps them waiting."""

    spans: list[Span] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        found = ExportTraceServiceRequest.FromString(await request.read())
        self.asked.set()
        await self.answers.wait()
        for resource in found.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def collecting(port: int) -> AsyncIterator[Collector]:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield collector
    finally:
        collector.answers.set()
        await runner.cleanup()


@dataclass(frozen=True, kw_only=True)
class Traced:
    home: FleetHome
    port: int


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    home = make_live_home(tmp_path_factory.mktemp("traced") / "home", driver="embedded")
    with home.home.config.open("a") as config:
        config.write(f'[tracing]\ncollector = "http://127.0.0.1:{port}"\n')
    return Traced(home=home, port=port)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "_EVERY_MS", 50)
    monkeypatch.setattr(otel, "_SEND_SECONDS", 0.5)


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


async def test_an_enrollment_and_a_renewal_are_traced_from_the_channel_to_the_commit(
    traced: Traced, tmp_path: Path
) -> None:
    async with collecting(traced.port) as collector:
        collector.answers.set()
        async with live(traced.home, tmp_path) as fleet:
            device = await fleet.enrolled("traced-1")
            renewal = Renew(id=str(uuid4()), csr=Unit(device_id="traced-1").csr, attempt=1)
            async with device.connected() as client:
                assert isinstance(await device.ask(renewal, client), Issued)
    for channel, kind in (("bootstrap", "enroll"), ("operational", "renew")):
        (root,) = [
            one for one in collector.named(f"channel {channel}") if attributes(one)["fleet.kind"] == kind
        ]
        (work,) = collector.named(f"ra {kind}")
        assert (work.parent_span_id, root.parent_span_id) == (root.span_id, b"")
        parts = [one for one in collector.spans if one.parent_span_id == work.span_id]
        assert {"judge", "sign", "commit", "broker"} <= {part.name for part in parts}
        assert {part.trace_id for part in parts} == {root.trace_id}
        told = attributes(root)
        assert (told["fleet.device"], told["fleet.outcome"]) == ("traced-1", "ok")
        (signed,) = [part for part in parts if part.name == "sign"]
        assert attributes(signed)["fleet.serial"] == told["fleet.serial"]
        if kind == "renew":
            assert told["fleet.request"] == renewal.id


async def test_a_collector_that_hangs_keeps_no_device_waiting_nor_the_end(
    traced: Traced, tmp_path: Path
) -> None:
    async with collecting(traced.port) as collector, live(traced.home, tmp_path) as fleet:
        await fleet.enrolled("traced-2")
        await collector.asked.wait()
        await fleet.enrolled("traced-3")  # while the collector has not answered
        assert collector.spans == []


async def test_a_collector_that_is_away_keeps_no_device_waiting(traced: Traced, tmp_path: Path) -> None:
    async with live(traced.home, tmp_path) as fleet:
        await fleet.enrolled("traced-4")


def test_a_server_without_a_collector_loads_nothing_of_it() -> None:
    code = "import sys, fleet.service; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
