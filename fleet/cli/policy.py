"""`fleet policy ...`: what certificates may do, and what they hold: read, tried, put in force, explained."""

from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import (
    Column,
    Form,
    Json,
    Members,
    items_of,
    say,
    show_list,
    show_record,
    write_json,
    write_text,
)
from fleet.cli.policy_users import users
from fleet.errors import ExitCode

_REQUESTS = (
    Column(title="DEVICE", member="device", whole=True),
    Column(title="ASKS", member="step"),
    Column(title="TIMES", member="times"),
    Column(title="BEFORE", member="before"),
    Column(title="AFTER", member="after"),
    Column(title="WHY", member="why"),
)
_TRAFFIC = (
    Column(title="DEVICE", member="name", whole=True),
    Column(title="VERB", member="verb"),
    Column(title="TOPIC", member="topic"),
    Column(title="TIMES", member="times"),
    Column(title="BEFORE", member="before"),
    Column(title="AFTER", member="after"),
    Column(title="BY", member="by"),
)
_RULES = (
    Column(title="RULE", member="rule", whole=True),
    Column(title="EFFECT", member="effect"),
    Column(title="LINE", member="line"),
    Column(title="CERTIFICATES", member="certificates"),
)
_VERSIONS = (
    Column(title="POLICY", member="number", whole=True),
    Column(title="APPLIED", member="applied_at"),
    Column(title="BY", member="actor"),
)
_HOME = ""
"""`--access` without a file: the home's."""
_ACCESS = "FILE holds the access policy; without FILE, the home's access.toml."

_access = click.option(
    "--access", is_flag=False, flag_value=_HOME, default=None, metavar="[FILE]", help=_ACCESS
)


@click.group()
def command() -> None:
    """What certificates may do (access.toml) and hold (fleet.toml): try a change, then put it in force."""


@command.command()
@options.record
def show(home: Place, form: Form) -> None:
    """Print the access policy that is in force."""
    found = with_client(home, lambda client: client.get("access"))
    if form is not Form.TABLE:
        write_json(found)
        return
    write_text(str(found["text"]).rstrip("\n"))
    if found["differs"]:
        say("warning: access.toml of the home says something else: fleet policy apply --access")


@command.command()
@options.record
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(home: Place, form: Form, *, file: Path | None) -> None:
    """Read an access policy [the home's access.toml], and tell what each rule is about now.

    A rule that never decides, a policy that grants nothing to anybody, an unknown name: each is an error
    with its line.
    """
    content = b"" if file is None else content_of(file)
    found = with_client(home, lambda client: client.post_text("access", "check", body=content))
    if form is Form.TABLE:
        show_list(items_of(found["rules"]), form, columns=_RULES)
    else:
        write_json(found)


@command.command()
@options.record
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A fleet.toml to try [the home's, as it is on disk].",
)
@_access
@click.pass_context
def test(context: click.Context, home: Place, form: Form, *, config: Path | None, access: str | None) -> None:
    """Tell what on record would be decided differently: requests, or with --access, traffic. Nothing changes.

    Exit code 0: nothing; 7: something, each with who, what before, what after, and why.
    """
    if access is None:
        content = b"" if config is None else content_of(config)
        found = with_client(home, lambda client: client.post_text("policy", "test", body=content))
    else:
        found = with_client(home, lambda client: client.post_text("access", "test", body=_content(access)))
    if form is not Form.TABLE:
        write_json(found)
    elif access is None:
        _show_requests(found)
    else:
        _show_traffic(found)
    context.exit(ExitCode.NEEDS_ATTENTION if found["different"] else ExitCode.DONE)


@command.command()
@options.record
@_access
def apply(home: Place, form: Form, *, access: str | None) -> None:
    """Put the profiles and [policy] of the home's fleet.toml in force, without a restart.

    What else changed in it needs a restart, and is refused here. The limit of requests a minute counts
    from the next start. With --access, put the access policy in force, for live connections too.
    """
    if access is None:
        found = with_client(home, lambda client: client.post("policy", "apply", body={}))
        show_record(found, form, names={"changed": "changed", "profiles": "profiles in force"})
        return
    content = _content(access)
    _show_applied(with_client(home, lambda client: client.post_text("access", "apply", body=content)), form)


@command.command()
@options.listing
def history(home: Place, form: Form) -> None:
    """List the access policies that were in force, the last one first; --json has text and digest."""

    def act(client: Client) -> None:
        show_list(client.items("access", "history"), form, columns=_VERSIONS)

    with_client(home, act)


@command.command()
@options.record
@click.argument("number", type=click.IntRange(0))
def rollback(home: Place, form: Form, *, number: int) -> None:
    """Put an earlier access policy in force again; 0 is the default one. access.toml becomes it, too."""
    body = {"number": number}
    _show_applied(with_client(home, lambda client: client.post("access", "rollback", body=body)), form)


@command.command()
@options.record
@options.domain
@options.device
@click.argument("verb", type=click.Choice(["publish", "subscribe"]))
@click.argument("topic")
def explain(home: Place, form: Form, *, domain: str | None, device: str, verb: str, topic: str) -> None:
    """Tell whether DEVICE may publish or subscribe to TOPIC, which rule says so, and what would change it."""
    where = options.identity_of(home, device, domain)
    found = with_client(home, lambda client: client.get("devices", *where, "access", verb=verb, topic=topic))
    if form is not Form.TABLE:
        write_json(found)
        return
    may = "may" if found["allowed"] else "may not"
    write_text(f"{where[0]}:{where[1]} {may} {verb} {topic}")
    write_text(f"because: {_because(found)}")
    for name, values in _facts(found).items():
        write_text(f"known: {name} = {values}")
    if not found["admitted"]:
        say("warning: no certificate of it is admitted now: it may do nothing at all")
        say(f"hint: fleet device explain {where[1]}")
    elif not found["allowed"]:
        _hint(found)


def _because(found: Members) -> str:
    if found["protocols"]:
        return "it belongs to the protocol between device and fleet, which no policy changes"
    if found["rule"] is None:
        return "no rule allows it"
    verb = "allows" if found["allowed"] else "denies"
    return f"rule {found['rule']!r} {verb} {found['pattern']} (access.toml:{found['line']})"


def _facts(found: Members) -> dict[str, str]:
    facts = found["facts"]
    known = facts if isinstance(facts, dict) else {}
    return {name: ", ".join(map(str, values)) for name, values in known.items() if isinstance(values, list)}


def _hint(found: Members) -> None:
    if found["rule"] is not None:
        say(f"hint: mend line {found['line']} of access.toml, then: fleet policy apply --access")
        return
    for rule in items_of(found["lacking"]):
        conditions = rule["conditions"]
        unmet = ", and ".join(map(str, conditions)) if isinstance(conditions, list) else ""
        say(f"hint: rule {rule['rule']!r} (access.toml:{rule['line']}) would allow it with {unmet}")
    if not found["lacking"]:
        say("hint: add it to a rule of access.toml, then: fleet policy apply --access")


def _show_requests(found: Members) -> None:
    rows = [_request(item) for item in items_of(found["items"])]
    if rows:
        show_list(rows, Form.TABLE, columns=_REQUESTS)
    say(f"{found['different']} of {found['requests']} requests on record would be answered differently")
    if found["undecided"]:
        say(f"{found['undecided']} were refused for other reasons, which no profile changes")


def _request(item: Members) -> Members:
    return {
        **item,
        "device": f"{item['domain']}:{item['device_id']}",
        "before": _member(item["before"], "outcome"),
        "after": _member(item["after"], "outcome"),
    }


def _show_traffic(found: Members) -> None:
    rows = [_decision(item) for item in items_of(found["items"])]
    if rows:
        show_list(rows, Form.TABLE, columns=_TRAFFIC)
    say(f"{found['different']} of {found['decisions']} decisions on record would be different")


def _decision(item: Members) -> Members:
    by = _member(item["after"], "rule")
    return {
        **item,
        "before": _word(item["before"]),
        "after": _word(item["after"]),
        "by": "no rule" if by is None else by,
    }


def _word(decided: Json) -> str:
    return "allowed" if _member(decided, "allowed") else "denied"


def _member(found: Json, name: str) -> Json:
    return found[name] if isinstance(found, dict) else None


def _show_applied(found: Members, form: Form) -> None:
    show_record(found, form, names={"number": "access policy", "changed": "changed", "digest": "SHA-256"})
    if not found["everywhere"]:
        say("warning: a broker could not be reached; it follows the policy as soon as it is back")


def _content(file: str) -> bytes:
    return b"" if file == _HOME else content_of(Path(file))


command.add_command(users)
