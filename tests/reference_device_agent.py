"""Renders the reference page of `device-agent` from its own parser.

python -m tests.reference_device_agent > docs/reference/device-agent.md
"""

import argparse
from collections.abc import Iterator

from device_agent.arguments import build_parser
from device_agent.status import Status

_HEAD = """# device-agent

Made from the command's own parser by `python -m tests.reference_device_agent`; a test holds it to that.
Data goes to stdout, talk to stderr; errors are `error:` and `hint:` lines on stderr. A one-time code comes
from a file, from standard input or from a prompt, never from the command line.

"""
_STATUS = """## What `status --json` prints

One object, also printed by `renew --json` and `enroll --json`; times are RFC 3339 in UTC, `null` where
there is nothing to tell.

"""
_FOLDER = """## The state folder

| path | holds |
|---|---|
| `record`, `record.previous` | what the agent keeps, and the same before its last change; 0600 |
| `keys/NAME.pem` | private keys, 0600; they never leave the device |
| `keys/NAME.tpm` | keys as the TPM has wrapped them, of use in it alone |
| `current/` | the identity for other programs, swapped as a whole at each renewal |
| `current/key.pem`, `cert.pem` | private key and leaf |
| `current/chain.pem` | leaf and issuing CA |
| `current/trust.pem`, `servers.pem` | roots of the domain, and of the servers |
| `key-place` | the token or TPM with the keys, if any; `current/key.uri` then stands for `key.pem` |
| `piv-keys` | which keys in the slots of a PIV token were used; a reset leaves it |
| `pin-refused` | salted hash of the PIN that the token refused last, so that it is not tried again; 0600 |
| `clock` | the last signed time, a floor for all later ones |
| `agent.sock` | where `renew` and `status` ask a running agent, 0600 |
| `lock` | held by the one agent process of this folder |
"""


def render() -> str:
    """Return the page."""
    parser = build_parser()
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    parts = [_HEAD, "## Options of every command\n\n", *_table(parser), f"\n```\n{parser.epilog}\n```\n"]
    for name, command in commands.choices.items():
        parts += [f"\n## device-agent {name}\n\n{command.description}\n"]
        table = list(_table(command))
        if len(table) > 1:
            parts += ["\n", *table]
        if command.epilog:
            parts += [f"\n```\n{command.epilog}\n```\n"]
    fields = "".join(f"`{name}` " for name in Status.__dataclass_fields__).strip().replace(" ", ", ")
    return "".join([*parts, "\n", _STATUS, fields, "\n\n", _FOLDER])


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield "| option | meaning |\n|---|---|\n"
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            value = f" {action.metavar}" if action.metavar else ""
            yield f"| `{', '.join(action.option_strings)}{value}` | {action.help} |\n"


if __name__ == "__main__":
    print(render(), end="")
