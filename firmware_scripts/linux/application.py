"""An example application: numbered readings out, pings answered, whatever certificate is the current one.

`python -m firmware_scripts.linux.application --state DIR`. It does nothing about certificates: the agent that
it embeds keeps them, renews them and reconnects, and answers `device-agent --state DIR renew` beside it.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from device_agent.agent import Agent
from device_agent.config import Settings
from device_agent.errors import AgentError

_PAUSE_SECONDS = 0.1
_FIRST_WAIT = timedelta(milliseconds=500)


@dataclass(slots=True)
class Counts:
    """What the application did; a reading counts when the broker has it."""

    readings: int = 0
    pings: int = 0


async def run(state: Path) -> Counts:
    """Work until SIGTERM; raises `AgentError` where the agent cannot start."""
    ended, counts = asyncio.Event(), Counts()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    settings = Settings(state=state, first_wait=_FIRST_WAIT)
    with Agent.opened(settings) as agent:
        async with agent.connected(), asyncio.TaskGroup() as group:
            work = [
                group.create_task(_answer(agent, counts, ended)),
                group.create_task(_measure(agent, counts, ended)),
            ]
            await ended.wait()
            # Both look at `ended` as well: a library below may swallow this (python/cpython#86296).
            for task in work:
                task.cancel()
    return counts


async def _measure(agent: Agent, counts: Counts, ended: asyncio.Event) -> None:
    await agent.ready()
    print("ready", flush=True)
    while not ended.is_set():
        number = counts.readings + 1
        await agent.publish("reading", json.dumps({"n": number}).encode())
        counts.readings = number
        await asyncio.sleep(_PAUSE_SECONDS)


async def _answer(agent: Agent, counts: Counts, ended: asyncio.Event) -> None:
    async with agent.messages("ping") as pings:
        async for ping in pings:
            counts.pings += 1
            answer = {"ping": ping.payload.decode("ascii", "replace"), "readings": counts.readings}
            await agent.publish("pong", json.dumps(answer).encode())
            if ended.is_set():
                return


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", required=True, type=Path, metavar="DIR", help="the agent's state folder")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        counts = asyncio.run(run(parser.parse_args().state))
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with suppress(BrokenPipeError):
        print(json.dumps({"readings": counts.readings, "pings": counts.pings}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
