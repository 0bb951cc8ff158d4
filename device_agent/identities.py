"""Runs the agents of all identities of a device in one process, apart from each other.

Each has a lock, an agent and a task of its own. They share a process and nothing else: what goes wrong with
one is told and tried again, and the others never hear of it.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from device_agent.agent import Agent
from device_agent.background import in_background
from device_agent.config import Settings
from device_agent.core.lifecycle import State, state_of
from device_agent.errors import AgentError, NotEnrolledError
from device_agent.folders import OWN, folder_of, identities_in
from device_agent.store import load_record
from device_agent.wire import pace

_log = logging.getLogger(__name__)

LOOK_EVERY = timedelta(seconds=30)
"""An identity that was enrolled while the agent runs is found by then."""


class Identities:
    """Runs the agent of each identity that is enrolled. `jitter` gives a random number in [0, 1)."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_agent: Callable[[Settings], AbstractContextManager[Agent]] = Agent.opened,
        look_every: timedelta = LOOK_EVERY,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._open_agent = settings, open_agent
        self._look_every, self._jitter = look_every, jitter
        self._running: dict[str, Agent] = {}
        self._begun: set[str] = set()

    @property
    def running(self) -> Mapping[str, Agent]:
        """The agents that run now, by domain; the device's own has the empty name."""
        return self._running

    def want_renewal(self) -> None:
        """Renew all of them soon."""
        for agent in self._running.values():
            agent.want_renewal()

    def make_progress(self) -> bool:
        """Tell whether each running agent was heard of in time."""
        return all(agent.makes_progress() for agent in self._running.values())

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Run them beside the body of a `with` statement.

        Raises:
            NotEnrolledError: there is none. AgentError: there is one, and it cannot be kept.
        """
        if not self._found():
            raise NotEnrolledError("this device has no certificate yet", hint="device-agent enroll")
        async with in_background(self._run()):
            yield

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                for name in self._found() - self._begun:
                    self._begun.add(name)
                    group.create_task(self._keep(name))
                await asyncio.sleep(self._look_every.total_seconds())

    async def _keep(self, name: str) -> None:
        """Run one until cancelled, or until it is enrolled no more."""
        failures, seconds = 0, asyncio.get_running_loop().time
        while name in self._found():
            began = seconds()
            try:
                with self._open_agent(settings_of(self._settings, name)) as agent:
                    self._running[name] = agent
                    await agent.run()
            except AgentError as error:
                if self._begun == {name}:
                    raise  # alone in its process: whoever started that decides
                has_lived = seconds() - began > pace.LONGEST_WAIT.total_seconds()
                failures = 1 if has_lived else failures + 1
                _log.error("%s: %s", name or "this device's own identity", error)
            except Exception:
                if self._begun == {name}:
                    raise
                # A defect that one domain's server can touch must not take the others down.
                failures += 1
                _log.exception("%s: a defect of the agent", name or "this device's own identity")
            finally:
                self._running.pop(name, None)
            pause = pace.back_off(failures, jitter=self._jitter())
            await asyncio.sleep(pause.total_seconds())
        self._begun.discard(name)

    def _found(self) -> set[str]:
        state = self._settings.state
        return {name for name in (OWN, *identities_in(state)) if _is_begun(folder_of(state, name))}


def settings_of(settings: Settings, name: str) -> Settings:
    """Return the settings of one of the identities; its sockets stand beside those of the device's own."""
    if name == OWN:
        return settings
    return replace(
        settings,
        state=folder_of(settings.state, name),
        share=_beside(settings.share, name),
        signer=_beside(settings.signer, name),
    )


def _beside(socket: Path | None, name: str) -> Path | None:
    return None if socket is None else socket.with_name(f"{socket.stem}-{name}{socket.suffix}")


def _is_begun(folder: Path) -> bool:
    """Tell whether there is something to run; what cannot be read is for the agent to tell."""
    try:
        loaded = load_record(folder)
    except AgentError:
        return True
    return loaded is not None and state_of(loaded.record.life) is not State.BLANK
