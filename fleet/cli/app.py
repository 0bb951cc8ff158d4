"""The command tree: `fleet NOUN VERB`. Errors become `error:` and `hint:`, each with its exit code.

Nothing of a noun is imported before it is called: `fleet --help` answers at once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click
from click.core import ParameterSource

from fleet.cli import output
from fleet.cli.remote import Remote, Server
from fleet.errors import ExitCode, FleetError, UsageError, exit_code

_NOUNS = {
    "init": "Make a fleet: its authorities, server certificate, store and first operator.",
    "serve": "Run the server: broker, enrollment, renewal, certificate status.",
    "demo": "Show a whole fleet's life on this machine, in under a minute.",
    "status": "Show the fleet's health on one screen.",
    "doctor": "Check everything; name each problem with its fix.",
    "forecast": "Show what ends when, and what an outage of the CAs would cost.",
    "device": "Devices: list, show, register, import, approve, set, tag, suspend, resume, retire.",
    "group": "Groups of devices: add, list, show, put, take, remove.",
    "move": "Devices on their way: transfer, replace, return, readmit, code, cancel.",
    "owner": "Whom devices belong to: add, list, remove.",
    "cert": "Certificates: list, show, revoke, renew, export, verify.",
    "claim": "What lets a device enroll: one-time codes and claim certificates.",
    "station": "Factory stations: add, list, run, lease, sync, report.",
    "template": "How AWS SDK clients register their things: add, list, show, remove.",
    "ca": "Roots and issuing CAs: add, import, activate, roll over, back up.",
    "domain": "Security domains: add, list, show.",
    "profile": "What certificates hold: list, show, check, assign, clear.",
    "policy": "What certificates may do, and hold: show, check, test, apply, explain, rollback.",
    "service": "Backends that read what devices tell: add, list, renew, revoke.",
    "key": "Keys that are never certified again: block, list.",
    "adoption": "Fleets of another CA: open, add, list, left, crl, close.",
    "notice": "What people are told: list, show, ack, test.",
    "operator": "Operators: add, list, renew, remove.",
    "proposal": "Acts on many devices that need a second operator: list, show, approve.",
    "audit": "Who did what and when: tail, search, verify, prove, export.",
    "rollout": "Changes led through the fleet in waves: plan, start, status, pause, halt.",
    "broker": "The broker: show, apply, sessions, kick.",
    "connection": "Who connected and who was refused: list.",
    "monitor": "Which certificates brokers and web servers refuse, why, and what helps.",
    "conform": "Check a device or client of yours: what does it do wrong?",
}
"""Each noun with its help; the module of the same name holds `command`."""

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT})
"""What goes wrong with a full disk behind a redirected output."""
_INTERRUPTED = 130
"""128 + SIGINT, as shells count."""


class _Nouns(click.Group):
    """The nouns, each loaded from its module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _NOUNS:
            return None
        command = import_module(f"fleet.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - each noun's module says so
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_NOUNS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _NOUNS:
            ctx.fail(f"there is no command {output.visible(args[0][:40])!r}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=_Nouns,
    invoke_without_command=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A first fleet: fleet init, fleet serve, then fleet claim create for each device.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, readable=False),
    envvar="FLEET_HOME",
    metavar="DIR",
    help="The fleet home [FLEET_HOME, else ~/.fleet].",
)
@click.version_option(package_name="fleet-provisioning", prog_name="fleet", message="%(prog)s %(version)s")
@click.option("--server", envvar="FLEET_SERVER", metavar="URL", help="Ask a server elsewhere [FLEET_SERVER].")
@click.option(
    "--operator-cert",
    type=click.Path(path_type=Path, readable=False),
    envvar="FLEET_OPERATOR_CERT",
    metavar="PEM",
    help="Your certificate there [FLEET_OPERATOR_CERT].",
)
@click.option(
    "--operator-key",
    type=click.Path(path_type=Path, readable=False),
    envvar="FLEET_OPERATOR_KEY",
    metavar="PEM",
    help="Its key [FLEET_OPERATOR_KEY].",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, readable=False),
    envvar="FLEET_TRUST",
    metavar="PEM",
    help="What that server is believed by: its home's trust/server.pem [FLEET_TRUST].",
)
@click.option(
    "--code-file",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Holds a code of your second factor, for acts that need one; - is standard input.",
)
@click.pass_context
def command(
    context: click.Context,
    home: Path | None,
    *,
    server: str | None,
    operator_cert: Path | None,
    operator_key: Path | None,
    trust: Path | None,
    code_file: Path | None,
) -> None:
    """Give devices their certificates, from the factory line to retirement.

    A fleet lives in one folder, its home. `fleet init` makes it, `fleet serve` runs it, the other
    commands ask the server that runs, or do their work by themselves when none does. With --server they ask a
    server on another machine, as the operator whose certificate it is shown.
    """
    found = _remote(context, server, (operator_cert, operator_key), trust)
    context.obj = replace(found, code_file=code_file) if isinstance(found, Remote) else found


def _remote(
    context: click.Context, server: str | None, pair: tuple[Path | None, Path | None], trust: Path | None
) -> Server | None:
    """Return the server that was named, unless a home was named more plainly."""
    if server is None:
        return None
    sources = {name: context.get_parameter_source(name) for name in ("home", "server")}
    if sources["home"] is ParameterSource.COMMANDLINE:
        if sources["server"] is ParameterSource.COMMANDLINE:
            raise UsageError("--home and --server name two servers", hint="leave one of them out")
        return None
    certificate, key = pair
    if certificate is None or key is None:
        return Server(server=server, trust=trust)
    context.call_on_close(lambda: _remind(certificate))
    return Remote(server=server, certificate=certificate, key=key, trust=trust)


def _remind(certificate: Path) -> None:
    """Tell an operator in time that the certificate he shows comes to its end."""
    from fleet.cli import bearer  # noqa: PLC0415 - the cryptography, needed with --server only

    if (text := bearer.reminder(certificate, now=bearer.utc_now())) is not None:
        output.say(text)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. Every error has been told on stderr by then."""
    try:
        code = command.main(arguments, prog_name="fleet", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _told(_lower(error.format_message()), hint=_usage_hint(error), code=ExitCode.USAGE)
    except click.ClickException as error:
        return _told(_lower(error.format_message()), hint=None, code=ExitCode.BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except FleetError as error:
        return _told(str(error), hint=error.hint, code=exit_code(error))
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            return _unexpected(error)
        reason = os.strerror(error.errno).lower()
        return _told(f"the output cannot be written: {reason}", hint=None, code=ExitCode.FAILED)
    except Exception as error:  # noqa: BLE001 - the outermost edge: a person is told, without a traceback
        return _unexpected(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _told(message: str, *, hint: str | None, code: ExitCode) -> int:
    output.say_error(message, hint)
    return code


def _unexpected(error: Exception) -> int:
    """Tell an error that nobody foresaw, or one of ours that came out of a task group."""
    if isinstance(error, ExceptionGroup) and isinstance(error.exceptions[0], Exception):
        inner = error.exceptions[0]
        if isinstance(inner, FleetError):
            return _told(str(inner), hint=inner.hint, code=exit_code(inner))
        return _unexpected(inner)
    if "FLEET_DEBUG" in os.environ:
        raise error
    message = f"{type(error).__name__}: {error}"
    return _told(
        message, hint="this is a fault of the program; FLEET_DEBUG=1 shows where", code=ExitCode.FAILED
    )


def _usage_hint(error: click.UsageError) -> str:
    return f"{error.ctx.command_path if error.ctx else 'fleet'} --help"


def _lower(message: str) -> str:
    """Return click's message as ours are: lower case, one line, no full stop."""
    text = " ".join(message.split()).rstrip(".")
    return text[:1].lower() + text[1:]


def _reader_left() -> int:
    """End quietly when the reader of a pipe has gone; nothing may be written to it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE
