"""`device-agent`: the commands of the device. Data goes to stdout, talk to stderr.

A code never stands on the command line: it comes from a file, `-` for standard input, or a prompt.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from device_agent import control
from device_agent.arguments import build_parser
from device_agent.config import Connection, Settings
from device_agent.errors import (
    AgentError,
    BadInputError,
    ExitCode,
    LockedError,
    NotEnrolledError,
    UsageError,
    exit_code,
)
from device_agent.folders import folder_of
from device_agent.journal import log_handler
from device_agent.looking import print_findings, print_status
from device_agent.options import (
    enrollment,
    est_enrollment,
    key_place,
    read_trust,
    read_trust_bundle,
    recovery,
)
from device_agent.terminal import can_ask

if TYPE_CHECKING:
    from device_agent.recovering import Recovery
    from device_agent.status import ShownTrust
    from device_agent.wire.trust import TrustBundle

_TRIES = 100
_TRY_SECONDS = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(
        handlers=[log_handler(os.environ)],
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    if not options.verbose:
        logging.getLogger("device_agent.channels.mqtt_client.paho").setLevel(logging.CRITICAL)
    try:
        options.state = folder_of(options.state, options.identity)
        return _COMMANDS[options.command](options)
    except AgentError as error:
        return _complain(error)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return ExitCode.FAILED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to be told, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _enroll(options: Namespace) -> int:
    from device_agent.keys.place import parse_place  # noqa: PLC0415 - `status` starts without it

    place = key_place(options)
    if place:
        parse_place(place)
    settings = Settings(
        state=options.state,
        hardware_id=options.hardware_id,
        model=options.model,
        key_place=place,
        patience=timedelta(seconds=options.wait),
    )
    if options.serial is not None:
        return asyncio.run(_enroll_serial(settings, options))
    return asyncio.run(_enroll_over_network(settings, options))


async def _enroll_over_network(settings: Settings, options: Namespace) -> int:
    from device_agent.agent import Agent  # noqa: PLC0415 - `status` starts without the network libraries

    wanted = enrollment(options) if options.est is None else est_enrollment(options)
    with Agent.opened(settings) as agent:
        status = await agent.enroll(wanted)
    _tell(status.members(), f"enrolled {status.name}, serial {status.serial}", as_json=options.json)
    return ExitCode.DONE


async def _enroll_serial(settings: Settings, options: Namespace) -> int:
    from device_agent.agent import Agent  # noqa: PLC0415 - as above

    trust = None if options.trust is None else read_trust(options.trust)
    with Agent.opened(settings) as agent:
        committed = await agent.enroll_serial(
            options.serial, device_id=options.device or "", trust_pem=trust, baud=options.baud
        )
        status = agent.status()
    if committed.tofu:
        print("the station was believed without an anchor; --trust names one", file=sys.stderr)
    told = {**status.members(), "station": committed.station, "tofu": committed.tofu}
    line = f"enrolled {status.name}, serial {status.serial}, by station {committed.station or '(unknown)'}"
    _tell(told, line, as_json=options.json)
    return ExitCode.DONE


def _run(options: Namespace) -> int:
    settings = Settings(
        state=options.state,
        hooks=options.hooks,
        connection=_connection(options),
        share=options.share,
        signer=options.signer,
    )
    return asyncio.run(_stay(settings))


async def _stay(settings: Settings) -> int:
    from device_agent.background import in_background  # noqa: PLC0415 - as above
    from device_agent.identities import Identities  # noqa: PLC0415 - as above
    from device_agent.notify import notify  # noqa: PLC0415 - as above
    from device_agent.watchdog import ping  # noqa: PLC0415 - as above

    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    identities = Identities(settings)
    loop.add_signal_handler(signal.SIGHUP, identities.want_renewal)
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stopped.set)
    async with identities.kept(), in_background(ping(os.environ, beats=identities.make_progress)):
        # Ready means that it works, not that it is connected: a network may be away for days.
        notify("READY=1", os.environ)
        await stopped.wait()
        notify("STOPPING=1", os.environ)
    return ExitCode.DONE


def _connection(options: Namespace) -> Connection:
    return Connection.LENT if options.lend else Connection.OWN


def _recover(options: Namespace) -> int:
    from device_agent.core.stored import StoredRecord  # noqa: PLC0415 - as above
    from device_agent.recovering import identity_of, move_keys  # noqa: PLC0415 - as above
    from device_agent.store import load_record  # noqa: PLC0415 - as above

    loaded = load_record(options.state)
    identity = identity_of(StoredRecord() if loaded is None else loaded.record)
    settings = Settings(
        state=options.state,
        hardware_id=options.hardware_id,
        model=options.model,
        patience=timedelta(seconds=options.wait),
    )
    if options.serial is not None:
        options.device = identity.device_id
    wanted = None if options.serial is not None else recovery(options, identity)
    if options.key:
        move_keys(options.state, options.key)
    if wanted is None:
        return asyncio.run(_enroll_serial(settings, options))
    told = _ask_or_do(settings, "recover", lambda: _recover_alone(settings, wanted), wanted.members())
    if told.exit_code is not ExitCode.DONE:
        return _print_error(told.error, told.hint, told.exit_code)
    line = f"recovered {told.members['name']}, serial {told.members['serial']}"
    _tell(told.members, line, as_json=options.json)
    return ExitCode.DONE


async def _recover_alone(settings: Settings, wanted: "Recovery") -> Mapping[str, object]:
    from device_agent.agent import Agent  # noqa: PLC0415 - as above

    with Agent.opened(settings) as agent:
        return (await agent.recover_once(wanted)).members()


def _renew(options: Namespace) -> int:
    settings = Settings(state=options.state, connection=_connection(options))
    told = _ask_or_do(settings, "renew", lambda: _renew_alone(settings))
    if told.exit_code is not ExitCode.DONE:
        return _print_error(told.error, told.hint, told.exit_code)
    line = f"renewed {told.members['name']}, serial {told.members['serial']}"
    _tell(told.members, line, as_json=options.json)
    return ExitCode.DONE


def _ask_or_do(
    settings: Settings,
    act: str,
    alone: Callable[[], Coroutine[object, object, Mapping[str, object]]],
    members: Mapping[str, object] = MappingProxyType({}),
) -> control.Told:
    """Have the running agent do it, or do it here where none runs."""
    told = control.ask(settings.socket, act, members)
    if told is not None:
        return told
    try:
        return control.Told(members=asyncio.run(alone()), exit_code=ExitCode.DONE)
    except LockedError:
        told = _ask_soon(settings, act, members)
        if told is None:
            raise
        return told


def _ask_soon(settings: Settings, act: str, members: Mapping[str, object]) -> control.Told | None:
    """Ask an agent that holds the lock, and may be about to open its socket."""
    for _ in range(_TRIES):
        time.sleep(_TRY_SECONDS)
        told = control.ask(settings.socket, act, members)
        if told is not None:
            return told
    return None


async def _renew_alone(settings: Settings) -> Mapping[str, object]:
    from device_agent.agent import Agent  # noqa: PLC0415 - as above

    with Agent.opened(settings) as agent:
        return (await agent.renew_once()).members()


def _trust(options: Namespace) -> int:
    from device_agent.core.stored import StoredRecord  # noqa: PLC0415 - as above
    from device_agent.status import trust_members, trust_of  # noqa: PLC0415 - as above
    from device_agent.store import load_record  # noqa: PLC0415 - as above

    settings = Settings(state=options.state)
    if options.file is not None:
        bundle = read_trust_bundle(options.file)
        told = control.ask(settings.socket, "trust", {"bundle": bundle.members()})
        if told is None:
            asyncio.run(_take_bundle(settings, bundle))
        elif told.exit_code is not ExitCode.DONE:
            return _print_error(told.error, told.hint, told.exit_code)
    loaded = load_record(settings.state)
    realms = trust_of(StoredRecord() if loaded is None else loaded.record)
    lines = (line for realm in realms for line in _realm_lines(realm))
    _tell(trust_members(realms), "\n".join(lines), as_json=options.json)
    return ExitCode.DONE


def _realm_lines(realm: "ShownTrust") -> Iterator[str]:
    whose = "servers" if realm.servers else f"domain {realm.realm}"
    bundle = f"bundle {realm.version}" if realm.version else "no bundle yet"
    yield f"{whose}: {bundle}, by {realm.source or 'enrollment'}, since {realm.since or '-'}"
    for anchor in realm.anchors:
        yield f"    {anchor.fingerprint[:16]}  until {anchor.not_after[:10]}  {anchor.name}"


async def _take_bundle(settings: Settings, bundle: "TrustBundle") -> None:
    from device_agent.agent import Agent  # noqa: PLC0415 - as above

    with Agent.opened(settings) as agent:
        await agent.take_bundle(bundle)


def _exec(options: Namespace) -> int:
    from device_agent.environment import environment_of  # noqa: PLC0415 - as above
    from device_agent.store import load_record  # noqa: PLC0415 - as above

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise UsageError("exec needs a program", hint="device-agent exec -- PROGRAM [ARGUMENT ...]")
    loaded = load_record(options.state)
    active = None if loaded is None else loaded.record.life.active
    if active is None:
        raise NotEnrolledError("this device has no certificate yet", hint="device-agent enroll")
    try:
        os.execvpe(program[0], program, {**os.environ, **environment_of(options.state, active)})  # noqa: S606 - what the caller named, without a shell
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise BadInputError(
            f"{program[0]} cannot be run: {reason}", hint="device-agent exec -- PROGRAM [ARGUMENT ...]"
        ) from error


def _reset(options: Namespace) -> int:
    from device_agent.agent import Agent  # noqa: PLC0415 - as above

    if not options.yes:
        _ask_for_reset()
    settings = Settings(state=options.state, hooks=options.hooks)
    with Agent.opened(settings) as agent:
        asyncio.run(agent.reset_and_tell())
    print("the identity and its keys are gone", file=sys.stderr)
    return ExitCode.DONE


def _ask_for_reset() -> None:
    if not can_ask():
        raise UsageError("reset destroys the identity of this device", hint="say so with --yes")
    print(
        "this destroys the identity of this device; a new one needs a code. reset? [y/N] ",
        end="",
        file=sys.stderr,
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


_COMMANDS: Mapping[str, Callable[[Namespace], int]] = {
    "enroll": _enroll,
    "run": _run,
    "recover": _recover,
    "renew": _renew,
    "status": print_status,
    "trust": _trust,
    "exec": _exec,
    "reset": _reset,
    "doctor": print_findings,
}


def _tell(members: Mapping[str, object], text: str, *, as_json: bool) -> None:
    print(json.dumps(dict(members)) if as_json else text, flush=True)


def _complain(error: AgentError) -> ExitCode:
    return _print_error(str(error), error.hint, exit_code(error))


def _print_error(message: str, hint: str | None, code: ExitCode) -> ExitCode:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
