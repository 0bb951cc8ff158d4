"""The commands that look at a device and change nothing: `status` and `doctor`, of all its identities."""

import asyncio
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from device_agent import control
from device_agent.config import Settings
from device_agent.errors import ExitCode
from device_agent.folders import OWN, folder_of, identities_in
from device_agent.store import load_record


def print_status(options: Namespace) -> int:
    """Print who this device is; `identities` are those in further domains, where there are any."""
    own = _status(options.state)
    others = [{"identity": name, **_status(folder_of(options.state, name))} for name in _others(options)]
    if options.json:
        print(json.dumps({**own, "identities": others} if others else own), flush=True)
        return ExitCode.DONE
    shown = ["\n".join(_lines(members)) for members in (own, *others)]
    print("\n\n".join(shown), flush=True)
    return ExitCode.DONE


def print_findings(options: Namespace) -> int:
    """Print what is wrong, and what is not; of a further identity with the name of its domain."""
    findings = asyncio.run(examined(options.state, _others(options)))
    if options.json:
        print(json.dumps(findings))
    else:
        for found in findings:
            whose = f"{found['identity']} " if "identity" in found else ""
            print(f"{'ok ' if found['ok'] else 'BAD'} {whose}{found['name']}: {found['text']}")
            if found["hint"]:
                print(f"    hint: {found['hint']}")
    return ExitCode.DONE if all(found["ok"] for found in findings) else ExitCode.NEEDS_ATTENTION


def _others(options: Namespace) -> tuple[str, ...]:
    return identities_in(options.state) if options.identity == OWN else ()


def _status(state: Path) -> Mapping[str, object]:
    """Ask the running agent, or read what it left."""
    from device_agent.clock import looked  # noqa: PLC0415 - a running agent knows it by itself
    from device_agent.core.stored import StoredRecord  # noqa: PLC0415 - as above
    from device_agent.meter import read_tally  # noqa: PLC0415 - as above
    from device_agent.status import status_of  # noqa: PLC0415 - as above

    settings = Settings(state=state)
    told = control.ask(settings.socket, "status")
    if told is not None and told.members:
        return told.members
    loaded = load_record(state)
    record = StoredRecord() if loaded is None else loaded.record
    return status_of(record, moment=looked(state, record), tally=read_tally(state)).members()


async def examined(state: Path, others: tuple[str, ...] = ()) -> list[dict[str, object]]:
    """Return the findings about the device's own identity, and about those in further domains."""
    from device_agent.doctor import examine  # noqa: PLC0415 - `status` starts without the key stores
    from device_agent.keys.place import open_keys  # noqa: PLC0415 - as above

    findings: list[dict[str, object]] = []
    # A device may have identities in further domains alone.
    for name in others if others and load_record(state) is None else (OWN, *others):
        settings = Settings(state=folder_of(state, name))
        told = await asyncio.to_thread(control.ask, settings.socket, "status")
        whose = {} if name == OWN else {"identity": name}
        looked = examine(settings, open_keys(settings.state), told=None if told is None else told.members)
        findings.extend([{**whose, **asdict(found)} async for found in looked])
    return findings


def _lines(members: Mapping[str, object]) -> Iterator[str]:
    for name, value in members.items():
        label = name.replace("_", " ")
        for line in _each(value) if isinstance(value, dict) else (_text(value),):
            yield f"{label:<13} {line}"
            label = ""


def _each(members: Mapping[str, object]) -> Iterator[str]:
    return (f"{name.replace('_', ' ')} {_text(value)}" for name, value in members.items())


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return " ".join(str(item) for item in value) or "-"
        case dict():
            return ", ".join(_each(value)) or "none"
        case _:
            return str(value)
