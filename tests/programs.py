"""Programs of others as processes of their own: what they say, and how they end."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

PROGRAM_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that has ended."""

    code: int
    output: bytes
    talk: str

    @property
    def said(self) -> str:
        """All that it said, on both streams."""
        return self.output.decode(errors="replace") + self.talk


async def run(*command: str | Path, folder: Path) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "LANG": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PROGRAM_SECONDS):
        output, talk = await process.communicate()
    assert process.returncode is not None
    return Ended(code=process.returncode, output=output, talk=talk.decode(errors="replace"))


async def must(*command: str | Path, folder: Path) -> bytes:
    """Return what a program puts out that has to succeed."""
    ended = await run(*command, folder=folder)
    assert ended.code == 0, f"{command[:3]} ended with {ended.code}:\n{ended.talk[-4000:]}"
    return ended.output
