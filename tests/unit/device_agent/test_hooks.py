"""Hooks are run after every change, until they succeed, and nothing that they do stops the agent."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.hooks import Change, Hooks

CONTRACT = {"DEVICE_AGENT_NAME": "prod:d1"}


def change(generation: str, serial: str = "41") -> Change:
    return Change(generation=generation, serial=serial, environment=CONTRACT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "post-renew.d"
    found.mkdir(mode=0o755)
    return found


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """What the hooks wrote."""
    return tmp_path / "told"


def hook(folder: Path, name: str, script: str, *, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path


def hooks_of(folder: Path, *, patience: float = 20) -> Hooks:
    return Hooks(folder.parent, folder, patience=timedelta(seconds=patience))


async def test_each_change_is_told_once_in_the_order_of_names(folder: Path, told: Path) -> None:
    for name in ("20-second", "10-first"):
        hook(folder, name, f'echo "{name} $DEVICE_AGENT_EVENT $DEVICE_AGENT_NAME" >> {told}')
    hooks = hooks_of(folder)
    for generation, serial in (("g1", "41"), ("g1", "41"), ("g2", "42"), ("g2-prod.3", "42")):
        hooks.tell(change(generation, serial))
        assert await hooks.catch_up()
    assert told.read_text().splitlines() == [
        f"{name} {event} prod:d1"
        for event in ("enrolled", "renewed", "trust")
        for name in ("10-first", "20-second")
    ]


async def test_a_folder_that_is_named_from_here_is_found_from_elsewhere(
    folder: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(folder, "10-note", f"pwd >> {told}")
    monkeypatch.chdir(folder.parent)
    hooks = hooks_of(Path(folder.name))
    hooks.tell(change("g1"))
    assert await hooks.catch_up()
    assert told.read_text() == "/\n"


async def test_an_agent_that_starts_again_tells_no_change_twice(folder: Path, told: Path) -> None:
    hook(folder, "10-note", f"echo told >> {told}")
    for _ in range(2):
        hooks = hooks_of(folder)
        hooks.tell(change("g1"))
        assert await hooks.catch_up()
    assert told.read_text() == "told\n"


async def test_a_hook_that_failed_is_run_again_alone_and_hears_the_same(folder: Path, told: Path) -> None:
    hook(folder, "10-fine", f"echo fine >> {told}")
    hook(folder, "20-later", f'test -e {folder}/../ready && echo "$DEVICE_AGENT_EVENT" >> {told}')
    hooks = hooks_of(folder)
    hooks.tell(change("g1"))
    assert not await hooks.catch_up()
    (folder.parent / "ready").touch()
    again = hooks_of(folder)
    again.tell(change("g1"))
    assert await again.catch_up()
    assert told.read_text().splitlines() == ["fine", "enrolled"]


async def test_a_hook_that_does_not_end_is_killed_with_all_that_it_started(folder: Path, told: Path) -> None:
    hook(folder, "10-hangs", f"(sleep 60; echo late >> {told}) & wait")
    hook(folder, "20-next", f"echo next >> {told}")
    hooks = hooks_of(folder, patience=0.2)
    hooks.tell(change("g1"))
    assert not await hooks.catch_up()
    assert told.read_text() == "next\n"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o644])
async def test_what_others_can_write_or_nobody_can_run_is_not_run(
    folder: Path, told: Path, mode: int
) -> None:
    hook(folder, "10-note", f"echo told >> {told}", mode=mode)
    hooks = hooks_of(folder)
    hooks.tell(change("g1"))
    assert await hooks.catch_up()
    assert not told.exists()


async def test_no_folder_is_no_hooks(tmp_path: Path) -> None:
    hooks = Hooks(tmp_path, tmp_path / "nothing")
    hooks.tell(change("g1"))
    assert await hooks.catch_up()


async def test_a_secret_of_the_agent_s_environment_reaches_no_hook(
    folder: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    hook(folder, "10-note", f"env > {told}")
    hooks = hooks_of(folder)
    hooks.tell(change("g1"))
    await hooks.catch_up()
    assert "CREDENTIALS_DIRECTORY" not in told.read_text()


async def test_while_it_runs_a_change_is_told_at_once(folder: Path, told: Path) -> None:
    hook(folder, "10-note", f'echo "$DEVICE_AGENT_EVENT" >> {told}; test -p {folder}/../pipe')
    hooks = hooks_of(folder)
    running = asyncio.create_task(hooks.run())
    try:
        for generation, serial, event in (("g1", "41", "enrolled"), ("g2", "42", "renewed")):
            hooks.tell(change(generation, serial))
            async with asyncio.timeout(20):
                while not told.exists() or event not in told.read_text():  # noqa: ASYNC110 - a child writes it
                    await asyncio.sleep(0.01)
    finally:
        running.cancel()
