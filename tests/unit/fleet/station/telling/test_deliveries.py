"""What leaves the station: files, posts and labels, each in its queue, whoever is away."""

import asyncio
import json
import os
import resource
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, FleetError, UnreachableError
from fleet.station.link.causes import Cause
from fleet.station.telling.book import Book, Job, Kind
from fleet.station.telling.deliveries import Courier, carry
from fleet.station.telling.events import LaneEvent, Stage
from fleet.station.telling.labels import LabelText
from fleet.station.telling.printer import LabelPrinter, PrintCommand, RawPrinter, device_of
from fleet.station.telling.result_file import ResultFile
from fleet.station.telling.result_hook import IDEMPOTENCY, SIGNATURE, ResultHook, require_url, signed
from fleet.station.telling.results import Result, Verdict, columns, id_of, verdict_of

NOW = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
TEXT = LabelText(
    device_id="spring-1", hardware_id="hw-1", serial="41" * 16, label="L1", station="s", date="d"
)


def result(number: int, **members: str) -> Result:
    values = {
        "id": f"id-{number}",
        "at": "2026-03-01T06:00:00Z",
        "station": "line3",
        "operator": "",
        "port": "/dev/ttyUSB0",
        "label": "",
        "hardware_id": f"hw-{number}",
        "device_id": "",
        "serial": "",
        "cause": "none",
        "detail": "",
    } | members
    return Result(result=Verdict.PASS, elapsed_ms=1200, **values)


def job(number: int, kind: Kind = Kind.FILE, **members: str) -> Job:
    made = result(number, **members)
    body = TEXT.encode() if kind is Kind.LABEL else made.line()
    return Job(kind=kind, id=made.id, unit=made.hardware_id, body=body)


class Doubtful:
    """A courier that is away at first, and refuses one job."""

    kind = Kind.HOOK
    at_once = 2

    def __init__(self, *, away: int) -> None:
        self.away = away
        self.arrived: list[str] = []

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[str]:
        if self.away:
            self.away -= 1
            raise UnreachableError("nobody is there")
        self.arrived += [one.id for one in jobs if one.id != "id-2"]
        return ["not this one" if one.id == "id-2" else "" for one in jobs]


async def deliver_all(book: Book, courier: Courier, kind: Kind, *, left: int) -> None:
    """Carry until so many jobs are left."""
    reached = asyncio.Event()
    seen: list[int] = []

    def tell(_kind: Kind, waiting: int, _problem: str) -> None:
        seen.append(waiting)
        if waiting <= left:
            reached.set()

    work = asyncio.ensure_future(carry(book, courier, clock=lambda: NOW, tell=tell))
    async with asyncio.timeout(20):
        await reached.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert await book.waiting(kind) == left


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    async with Book.opened(tmp_path / "line.db", clock=lambda: NOW) as opened:
        yield opened


async def test_who_is_away_gets_everything_later_and_a_refused_one_holds_up_nobody(book: Book) -> None:
    await book.add([job(number, Kind.HOOK) for number in range(5)])
    courier = Doubtful(away=1)
    await deliver_all(book, courier, Kind.HOOK, left=1)
    assert courier.arrived == ["id-0", "id-1", "id-3", "id-4"]


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv"])
async def test_results_are_appended_once_and_a_torn_line_is_mended(tmp_path: Path, name: str) -> None:
    courier = ResultFile.parse(tmp_path / name)
    await courier.deliver([job(1), job(2)])
    whole = (tmp_path / name).read_bytes()
    with (tmp_path / name).open("ab") as file:
        file.write(b'{"id": "torn')
    await courier.deliver([job(2), job(3)])
    lines = (tmp_path / name).read_text().splitlines()
    assert (tmp_path / name).read_bytes().startswith(whole)
    assert [sum(f"id-{number}" in line for line in lines) for number in (1, 2, 3)] == [1, 1, 1]
    assert "torn" not in "".join(lines)


async def test_a_csv_file_has_its_columns_and_no_formulas(tmp_path: Path) -> None:
    courier = ResultFile.parse(tmp_path / "results.csv")
    await courier.deliver([job(1, detail="=1+1"), job(2, detail='a "b",\nc')])
    head, first, second = (tmp_path / "results.csv").read_text().splitlines()
    assert head == columns()
    assert "'=1+1" in first
    assert '"a ""b"", c"' in second


async def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    courier = ResultFile.parse(path)
    await courier.deliver([job(1)])
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, old[1]))
    try:
        with pytest.raises((FleetError, OSError)):
            await courier.deliver([job(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    await courier.deliver([job(2)])
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("path", ["results", "results.txt", "nowhere/results.csv"])
def test_other_files_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInputError):
        ResultFile.parse(tmp_path / path)


class Mes:
    """A factory's system that answers as it is told, and keeps what it took by its id."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.taken: dict[str, dict[str, object]] = {}
        self.signatures: list[str] = []

    async def post(self, request: web.Request) -> web.Response:
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 201
        self.signatures.append(request.headers.get(SIGNATURE, ""))
        if status < 300:
            assert request.headers[IDEMPOTENCY] not in self.taken
            self.taken[request.headers[IDEMPOTENCY]] = json.loads(body)
            assert self.signatures[-1] == signed(Secret("s3"), at=int(NOW.timestamp()), body=body)
        return web.Response(status=status)


@asynccontextmanager
async def served(mes: Mes) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/results", mes.post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/results"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("answers", [[500, 503], [429], [302], [409]])
async def test_results_are_posted_until_they_are_taken(book: Book, answers: list[int]) -> None:
    mes = Mes()
    mes.answers = list(answers)
    await book.add([job(1, Kind.HOOK)])
    async with served(mes) as url, ResultHook.opened(url, secret=Secret("s3"), clock=lambda: NOW) as hook:
        await deliver_all(book, hook, Kind.HOOK, left=0)
    assert list(mes.taken) == ([] if answers == [409] else ["id-1"])


async def test_a_result_that_is_refused_is_kept_and_the_next_goes_on(book: Book) -> None:
    mes = Mes()
    mes.answers = [422]
    await book.add([job(1, Kind.HOOK), job(2, Kind.HOOK)])
    async with served(mes) as url, ResultHook.opened(url, secret=Secret("s3"), clock=lambda: NOW) as hook:
        await deliver_all(book, hook, Kind.HOOK, left=1)
    assert len(mes.taken) == 1


@pytest.mark.parametrize("url", ["http://mes.example/r", "ftp://x", "https//x", "", "http://127.0.0.1.x/"])
def test_results_do_not_go_over_the_network_in_clear(url: str) -> None:
    with pytest.raises(BadInputError):
        require_url(url)


async def test_a_printer_on_the_network_gets_the_label_as_it_is(book: Book) -> None:
    printed: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        printed.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await book.add([job(1, Kind.LABEL)])
    async with server:
        courier = LabelPrinter.parse(f"tcp:127.0.0.1:{port}", "zpl")
        await deliver_all(book, courier, Kind.LABEL, left=0)
    assert b"^FDMA,SPRING-1^FS" in printed[0]


async def test_a_printer_that_is_away_loses_no_label(book: Book, tmp_path: Path) -> None:
    script = tmp_path / "lp"
    script.write_text(f"#!/bin/sh\ntest -e {tmp_path}/on || exit 1\ncat >> {tmp_path}/paper\n")
    script.chmod(0o700)
    courier = LabelPrinter.parse(shlex.quote(str(script)), "text")
    await book.add([job(1, Kind.LABEL)])
    with pytest.raises(UnreachableError, match="ended with 1"):
        await courier.deliver(await book.due(Kind.LABEL, limit=1))
    (tmp_path / "on").touch()
    await deliver_all(book, courier, Kind.LABEL, left=0)
    assert (tmp_path / "paper").read_text().startswith("spring-1\nL1\n")


@pytest.mark.parametrize("text", ["tcp:", "tcp:a b", "tcp:h:0", "tcp:h:99999", "tcp:h:x", "", "'"])
def test_what_is_no_printer_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        device_of(text)


def test_printers_are_named_by_address_or_command() -> None:
    assert device_of("tcp:printer1") == RawPrinter(host="printer1", port=9100)
    assert device_of("tcp:[fe80::1]:9101") == RawPrinter(host="fe80::1", port=9101)
    assert device_of("lp -d 'my labels'") == PrintCommand(words=("lp", "-d", "my labels"))


async def test_a_command_that_is_not_there_is_away() -> None:
    with pytest.raises(UnreachableError, match="cannot be started"):
        await PrintCommand(words=(f"{sys.prefix}/no-such-program{os.getpid()}",)).print(b"x")


@given(st.text(max_size=80))
def test_every_result_is_read_back(text: str) -> None:
    made = result(1, detail=text, label=text)
    assert Result.parse(made.line()) == made
    assert "\n" not in made.line() + made.row()


def test_a_pass_has_one_id_for_ever_and_other_ends_each_their_own() -> None:
    event = LaneEvent(port="p", stage=Stage.COMMITTED, hardware_id="hw", serial="41" * 16)
    assert id_of(Verdict.PASS, event, at="1") == id_of(Verdict.PASS, event, at="2")
    assert id_of(Verdict.FAIL, event, at="1") != id_of(Verdict.FAIL, event, at="2")


@pytest.mark.parametrize("stage", Stage)
def test_only_an_end_of_a_known_unit_is_a_result(stage: Stage) -> None:
    ends = {Stage.COMMITTED: Verdict.PASS, Stage.FAILED: Verdict.FAIL, Stage.QUARANTINED: Verdict.QUARANTINE}
    known = LaneEvent(port="p", stage=stage, hardware_id="hw", cause=Cause.NONE)
    assert verdict_of(known) == ends.get(stage)
    assert verdict_of(LaneEvent(port="p", stage=stage)) is None
