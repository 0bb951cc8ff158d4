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
there is nothing to tell. `status` alone adds `identities`, where the device has some in further domains: a
list of such objects, each with `identity`, the name of its domain. What `counters` holds is told below.

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
| `events.jsonl`, `events.jsonl.1` | events, the newer in the first; 64 KiB each at most, 0600 |
| `tally` | counters, written once an hour at most and when an agent ends |
| `hooks.done` | which hooks have succeeded, of which change |
| `post-renew.d/` | hooks: what is run after each change of the identity |
| `identities/DOMAIN/` | another whole state folder: the identity in a further domain |
| `agent.sock` | where `renew` and `status` ask a running agent, 0600 |
| `lock` | held by the one agent process of this folder |
"""
_EVENTS = """
## Events and counters

Each line of `events.jsonl` is an object with `at` (the time that is believed), `time_source` and `event`:

| event | when | with |
|---|---|---|
| `started` | `run` began | `agent`, its version |
| `enrolled`, `renewed` | a certificate is in use | `name`, `serial`, `not_after` |
| `trust` | a trust bundle was taken | `versions`, by realm |
| `failed` | an attempt ended with another problem than the one before | `problem`, `detail` |
| `works-again` | an attempt succeeded after that | `after`, the problem |
| `recovery` | the device stands on another rung of the ladder | `rung`, `why` |
| `time` | the time is known by something else | `before` |

At most 100 are written a day; `left_out` in the next one says how many were not. A power cut may lose a line.

| counter | counts |
|---|---|
| `since` | no counter: when counting began |
| `renewals` | certificates that took the place of another |
| `failures` | attempts that failed, by problem |
| `signatures` | made with the identity's keys outside of TLS: requests, proofs, and what `--signer` lent |
| `connections` | to the broker; each was one more signature, in TLS |
| `writes`, `written_bytes` | files and lines written to the state folder; flash wears |

`failures` is one number on the state topic. An idle device writes the floor of its clock once a day, and its
counters when they have changed, once an hour at most; a server can make it renew 24 times a day, and note
another wish when to renew as often, not more.

## Hook events

`DEVICE_AGENT_EVENT` tells the hooks in `post-renew.d/` why they are run: `enrolled`, `renewed`, `trust` (the
roots in `current/` are others), or `reset` (the identity is gone, and so is `current/`; run once, by
`device-agent reset`).
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
    return "".join([*parts, "\n", _STATUS, fields, "\n\n", _FOLDER, _EVENTS])


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield "| option | meaning |\n|---|---|\n"
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            value = f" {action.metavar}" if action.metavar else ""
            yield f"| `{', '.join(action.option_strings)}{value}` | {action.help} |\n"


if __name__ == "__main__":
    print(render(), end="")
