"""Lends the agent's MQTT connection, message by message: a 0600 unix socket, JSON lines in both directions.

A program publishes and subscribes below the device's own topics, over reconnects and renewals. It can ask
the agent for nothing else here, and can hold up nobody but itself.
"""

import asyncio
import base64
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from device_agent.background import in_background
from device_agent.control import listening
from device_agent.errors import AgentError, ExitCode, UsageError, exit_code
from device_agent.traffic import Message, Traffic
from device_agent.wire.fields import MAX_BODY_BYTES, Fields, parse_object
from device_agent.wire.problems import MalformedMessageError

MAX_PAYLOAD_BYTES = 32 * 1024
_LONGEST_ID = 64
_LONGEST_TOPIC = 256
_MOST_PROGRAMS = 16
_MOST_UNANSWERED = 32
_MOST_FILTERS = 16

_log = logging.getLogger(__name__)


class _GoneError(Exception):
    """The program has closed its connection, or does not keep to the protocol."""


class Program:
    """One connection of a program."""

    def __init__(self, traffic: Traffic, writer: asyncio.StreamWriter) -> None:
        self._traffic, self._writer = traffic, writer
        self._writing = asyncio.Lock()
        self._free = asyncio.Semaphore(_MOST_UNANSWERED)
        self._filters = 0

    async def converse(self, reader: asyncio.StreamReader) -> None:
        """Do what it asks until it goes; what it did not wait for is given up then."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    # What is not read waits at the program: it is slowed down, and nothing piles up here.
                    await self._free.acquire()
                    group.create_task(self._do(await _line(reader)))
        except* (_GoneError, OSError) as errors:
            _log.debug("a program has gone: %s", errors.exceptions[0])

    async def _do(self, line: bytes) -> None:
        try:
            fields = parse_object(line)
            asked = fields.text("id", longest=_LONGEST_ID)
        except MalformedMessageError as error:
            await self._write({"exit": ExitCode.BAD_INPUT.value, "error": str(error)})
            raise _GoneError("what it says is no request") from error
        try:
            await self._act(asked, fields)
        except MalformedMessageError as error:
            await self._refuse(asked, ExitCode.BAD_INPUT, str(error))
        except AgentError as error:
            await self._refuse(asked, exit_code(error), str(error))

    async def _act(self, asked: str, fields: Fields) -> None:
        match fields.text("do", longest=16):
            case "publish":
                topic = fields.text("topic", longest=_LONGEST_TOPIC)
                await self._traffic.publish(topic, _payload(fields))
                await self._answer({"id": asked, "exit": ExitCode.DONE.value})
            case "subscribe":
                await self._subscribe(asked, parse_filter(fields.text("topic", longest=_LONGEST_TOPIC)))
            case _:
                raise UsageError("no such act: publish and subscribe are all")

    async def _subscribe(self, asked: str, topic_filter: str) -> None:
        if self._filters == _MOST_FILTERS:
            raise UsageError(f"at most {_MOST_FILTERS} subscriptions a connection")
        self._filters += 1
        try:
            async with self._traffic.messages(topic_filter) as messages:
                await self._answer({"id": asked, "exit": ExitCode.DONE.value})
                async for message in messages:
                    await self._write(_members(asked, message))
        finally:
            self._filters -= 1

    async def _refuse(self, asked: str, code: ExitCode, why: str) -> None:
        await self._answer({"id": asked, "exit": code.value, "error": why})

    async def _answer(self, members: dict[str, object]) -> None:
        await self._write(members)
        self._free.release()

    async def _write(self, members: dict[str, object]) -> None:
        async with self._writing:
            self._writer.write(json.dumps(members).encode() + b"\n")
            await self._writer.drain()


@asynccontextmanager
async def sharing(path: Path, traffic: Traffic) -> AsyncIterator[None]:
    """Serve programs on the socket while the body runs; raises `StateError` where it cannot be made."""
    with listening(path) as listener:
        async with in_background(_serve(listener, traffic)):
            yield


async def _serve(listener: socket.socket, traffic: Traffic) -> None:
    """Serve every program in a task of its own, until cancelled."""
    served: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Program(traffic, writer).converse(reader)
        finally:
            served.discard(writer)
            writer.transport.abort()

    async with asyncio.TaskGroup() as group:

        def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(served) < _MOST_PROGRAMS:
                served.add(writer)
                group.create_task(serve(reader, writer))
            else:
                _log.warning("a program is turned away: %d share the connection already", len(served))
                writer.close()

        server = await asyncio.start_unix_server(welcome, sock=listener, limit=MAX_BODY_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in served:  # a task that was not even begun closes nothing
                writer.transport.abort()


def parse_filter(text: str) -> str:
    """Return a topic filter (MQTT 3.1.1 4.7.1); raises `MalformedMessageError`.

    A bad one must not reach the connection that all programs share.
    """
    *levels, last = text.split("/")
    plain = [level for level in (*levels, last) if level != "+"]
    if last == "#":
        plain.pop()
    if any(set(level) & {"+", "#", "\0"} for level in plain):
        raise MalformedMessageError("topic is no filter: + is a whole level, # the last one")
    return text


def _payload(fields: Fields) -> bytes:
    if fields.any_text("payload", longest=MAX_BODY_BYTES) == "":
        return b""  # MQTT has empty messages, and base64 here has none
    payload = fields.base64("payload", longest=MAX_PAYLOAD_BYTES)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedMessageError(f"payload must not exceed {MAX_PAYLOAD_BYTES} bytes")
    return payload


def _members(asked: str, message: Message) -> dict[str, object]:
    return {"id": asked, "topic": message.topic, "payload": base64.b64encode(message.payload).decode()}


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        raise _GoneError("it closed the connection") from error
    except asyncio.LimitOverrunError as error:
        raise _GoneError("its line is too long") from error
