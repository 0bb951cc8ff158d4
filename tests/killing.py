"""Real agent processes that are killed at one of the calls by which they write: SIGKILL, from within it.

One process has imported everything and forks for each life, so that a life costs no start. What counts the
calls is a library that is loaded before all others (ld.so(8), LD_PRELOAD).
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long calls, last = -1;

void begin(const char *below, long kill_at) { strcpy(folder, below); calls = 0; last = kill_at; }
long count(void) { return calls; }

static int is_below(const char *path) { return folder[0] && !strncmp(path, folder, strlen(folder)); }

static void step(const char *path)
{
    if (is_below(path) && calls++ == last)
        kill(getpid(), SIGKILL);
}

static void step_of(int descriptor)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        step(path);
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (flags & O_CREAT) step(path); \
        return REAL(name)(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
ssize_t write(int to, const void *from, size_t size) { step_of(to); return REAL(write)(to, from, size); }
int fsync(int of) { step_of(of); return REAL(fsync)(of); }
int rename(const char *from, const char *to) { step(to); return REAL(rename)(from, to); }
int unlink(const char *path) { step(path); return REAL(unlink)(path); }
int remove(const char *path) { step(path); return REAL(remove)(path); }
int symlink(const char *to, const char *path) { step(path); return REAL(symlink)(to, path); }
int mkdir(const char *path, mode_t mode) { step(path); return REAL(mkdir)(path, mode); }
"""

_LIVES = """
import ctypes, json, os, sys
import device_agent.agent, device_agent.keys.pkcs11, device_agent.channels.mqtt
from device_agent.cli import main
counter = ctypes.CDLL(None)
counter.begin.argtypes = (ctypes.c_char_p, ctypes.c_long)
for line in sys.stdin:
    life = json.loads(line)
    child = os.fork()
    if child == 0:
        counter.begin(life["folder"].encode(), life["kill_at"])
        codes = [main(command) for command in life["commands"]]
        sys.stdout.write(json.dumps({"codes": codes, "calls": counter.count()}) + "\\n")
        sys.stdout.flush()
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended != 0:
        print(json.dumps({"signal": -ended}), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended; `calls` is how many there were where nothing killed it."""

    was_killed: bool
    codes: tuple[int, ...] = ()
    calls: int = 0


@dataclass(frozen=True, kw_only=True)
class Lives:
    """Makes one process after the other, each of `device-agent`."""

    process: asyncio.subprocess.Process

    async def live(self, *commands: Sequence[str], folder: Path, kill_at: int = -1) -> Ended:
        """Run commands in one new process, which dies at a call that writes below a folder."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"folder": f"{folder}/", "kill_at": kill_at, "commands": [list(each) for each in commands]}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        await self.process.stdin.drain()
        while True:
            said = await self.process.stdout.readline()
            assert said, "the process that forks has ended"
            if said.startswith(b"{"):
                break
        told = json.loads(said)
        if "signal" in told:
            assert told["signal"] == signal.SIGKILL
            return Ended(was_killed=True)
        return Ended(was_killed=False, codes=tuple(told["codes"]), calls=told["calls"])


@asynccontextmanager
async def lives(folder: Path) -> AsyncIterator[Lives]:
    """Build what counts, and begin."""
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(_COUNTER)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LIVES),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LD_PRELOAD": str(library)},
    )
    try:
        yield Lives(process=process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
