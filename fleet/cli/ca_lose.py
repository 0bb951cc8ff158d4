"""`fleet ca compromise`, `take-over`, `put-away`: the day on which a CA's key is lost, and before it."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from device_agent.wire.secret import Secret
from fleet.ca.issuer import issuer_named_by
from fleet.ca.loading import load_certificate
from fleet.ca.signers import PrivateKey, encrypted_pem, load_key
from fleet.cli import ca_crl, options, rehearsal, root_key
from fleet.cli.ca_add import like, opened_root
from fleet.cli.client import Client, is_served, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, say, show_record
from fleet.errors import BadInputError, ExitCode, FleetError, UsageError
from fleet.files import read_secret, sync_folder, telling, write_file
from fleet.home import Home, open_home
from fleet.ra.people.operators import LOCAL
from fleet.terminal import can_ask

_NAMES = {
    "name": "CA",
    "state": "state",
    "successor": "signs now",
    "revoked": "revoked",
    "root": "root",
    "root_knows": "on its list",
    "hastened": "told to renew",
    "due": "due in all",
    "needed_by": "still to move",
    "needing": "namely",
    "problems": "not done",
}
_WORK_FACTOR = 14
_LIST_LIFETIME = timedelta(days=366)
_KEY_FILE_RANDOMNESS = 32

_name = click.argument("name", metavar="CA")
_within = click.option(
    "--within",
    type=click.IntRange(0, 24 * 366),
    metavar="HOURS",
    help="Time in which all its devices renew, spread over it [24; 0 where they are cut off].",
)
_cut_off = click.option(
    "--cut-off",
    is_flag=True,
    help="Let its leaves connect no more; devices come back by the recovery listener.",
)


@click.command()
@options.record
@root_key.options
@_within
@_cut_off
@rehearsal.option
@click.option("--yes", is_flag=True, help="Do not ask.")
@_name
@click.pass_context
def compromise(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    name: str,
    root_folder: Path | None,
    passphrase_file: Path | None,
    within: int | None,
    cut_off: bool,
    rehearse: bool,
    yes: bool,
) -> None:
    """Give up an issuing CA whose key may be in other hands.

    It signs no more from now on; a CA that stands by takes over; its certificate is revoked; all its devices
    are told to renew. They go on connecting meanwhile: brokers know each certificate by its own hash, and
    none that a thief signs is among them. May be ordered again after any failure. Exit code 7: it is done,
    and nobody signs in its place.
    """
    if not rehearse and not yes:
        _confirm(name)
    body = _body("compromised", within=within, cut_off=cut_off, rehearse=rehearse)

    def act(client: Client) -> Members:
        found = client.post("authorities", name, "give-up", body=body)
        if found["root_knows"] or rehearse:
            return found
        at_hand = _tell_root(client, home, found, root_folder=root_folder, passphrase_file=passphrase_file)
        return {**found, **at_hand}

    found = with_client(home, act)
    context.exit(_told(found, form, rehearse=rehearse))


@click.command("take-over")
@options.record
@_within
@_cut_off
@rehearsal.option
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path), metavar="FILE", help="The key that was put away."
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the passphrase that it was put away with [the roots'].",
)
@click.option("--lost", required=True, metavar="CA", help="The CA whose key is lost.")
@_name
@click.pass_context
def take_over(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    name: str,
    lost: str,
    key_file: Path | None,
    passphrase_file: Path | None,
    within: int | None,
    cut_off: bool,
    rehearse: bool,
) -> None:
    """Let a CA that stands by sign, because another one's key is lost.

    Its key may have been kept elsewhere: --key brings it back. The devices of the lost CA renew at once: its
    revocation list cannot be made any more, and brokers let nobody in without one. Exit code 7: it is done,
    and nobody signs in its place.
    """
    body = _body("lost", within=within, cut_off=cut_off, rehearse=rehearse) | {"successor": name}
    if key_file is not None:
        key = _kept_key(_home_of(home), name, key_file, root_key.passphrase(home, passphrase_file))
        if rehearse:
            body["brings_key"] = True
        else:
            _bring_back(_home_of(home), name, key)
    if isinstance(home, Path) and not rehearse:
        _record_where_none_serves(open_home(home), name, lost=lost)
    found = with_client(home, lambda client: client.post("authorities", lost, "give-up", body=body))
    context.exit(_told(found, form, rehearse=rehearse))


@click.command("put-away")
@options.home
@options.as_json
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the key goes.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the passphrase to keep it under [the roots'].",
)
@_name
def put_away(home: Path, form: Form, *, name: str, target: Path, passphrase_file: Path | None) -> None:
    """Move the key of a CA that stands by to another disk, until the day when it is needed.

    It is written there under the roots' passphrase, read back, and then removed from the home.
    """
    place = open_home(home)
    state = with_client(home, lambda client: client.get("authorities", name))
    if state["state"] != "standby":
        raise BadInputError(f"the CA {name} is {state['state']}, it does not stand by", hint="fleet ca list")
    source = place.authority_files(str(state["name"])).ca.key
    kept_under = root_key.passphrase(home, passphrase_file)
    key = load_key(source, passphrase=read_secret(place.issuing_passphrase))
    if target.exists():
        raise BadInputError(f"{target} exists already", hint="name another file")
    write_file(target, _sealed(key, kept_under))
    if load_key(target, passphrase=kept_under).public_key() != key.public_key():
        raise BadInputError(f"{target} does not read back as it was written", hint="try another disk")
    with telling(source):
        source.unlink()
        sync_folder(source.parent)
    show_record({"name": state["name"], "key": str(target)}, form, names={"name": "CA", "key": "key now in"})


COMMANDS: tuple[click.Command, ...] = (compromise, take_over, put_away)


def _body(loss: str, *, within: int | None, cut_off: bool, rehearse: bool) -> dict[str, Json]:
    body: dict[str, Json] = {"loss": loss}
    if within is not None:
        body["within_hours"] = within
    return body | {name: True for name, is_set in (("cut_off", cut_off), ("rehearse", rehearse)) if is_set}


def _confirm(name: str) -> None:
    if not can_ask():
        raise UsageError(f"this gives up the CA {name} for good", hint="say so with --yes")
    say(f"this gives up the CA {name} for good; what it signed is replaced")
    if click.prompt("type its name to go on", err=True) != name:
        raise UsageError("nothing was changed")


def _tell_root(
    client: Client, home: Place, found: Members, *, root_folder: Path | None, passphrase_file: Path | None
) -> Members:
    """Make the root's list, if its key is at hand; what keeps it from that is no failure of the rest."""
    root = str(found["root"])
    try:
        record = client.get("authorities", root)
        opened = opened_root(client, record, home=home, named=root_folder, passphrase_file=passphrase_file)
        ca_crl.renewed(client, root, opened, _LIST_LIFETIME)
    except FleetError as error:
        say(f"the root's key is not at hand: {error}")
        return {}
    return {"root_knows": True}


def _told(found: Members, form: Form, *, rehearse: bool) -> ExitCode:
    """Show what was done, or would be, and what is left; return what the command ends with."""
    show_record(found, form, names=_NAMES)
    if found["successor"] is None and not (rehearse and form is not Form.TABLE):
        would = "would sign" if rehearse else "signs"
        say(f"nobody {would} in its place: {like(str(found['name']))}")
    if rehearse:
        rehearsal.say_rehearsed(form)
    else:
        _say_what_is_left(found)
    return ExitCode.NEEDS_ATTENTION if found["successor"] is None else ExitCode.DONE


def _say_what_is_left(found: Members) -> None:
    if not found["root_knows"]:
        say(f"next: fleet ca crl {found['root']} --root DIR, where the root's key is")
    if found["needed_by"]:
        say(f"{found['needed_by']} still have to move; when none has: fleet ca retire {found['name']}")


def _record_where_none_serves(home: Home, name: str, *, lost: str) -> None:
    """Put the loss on record first, where no server runs and none could start without the key."""
    pair = home.authority_files(lost).ca
    if is_served(home) or pair.key.exists() or not pair.certificate.exists():
        return
    from fleet.ra.succession.loss_on_record import OfflineLoss, record_loss  # noqa: PLC0415 - the store, needed here only

    now = datetime.now(UTC).replace(microsecond=0)
    signed_by = issuer_named_by(load_certificate(home.authority_files(name).ca.certificate))
    loss = OfflineLoss(lost=lost, successor=name, signed_by=signed_by, actor=f"operator:{LOCAL}", at=now)
    asyncio.run(record_loss(home, loss))


def _home_of(place: Place) -> Home:
    if isinstance(place, Path):
        return open_home(place)
    raise UsageError("a key is brought back where the home is", hint="leave --server out, or --key")


def _kept_key(home: Home, name: str, key_file: Path, passphrase: Secret) -> PrivateKey:
    """Open the key of a CA that was put away. Raises `FleetError`."""
    certificate = load_certificate(home.authority_files(name).ca.certificate)
    key = load_key(key_file, passphrase=passphrase)
    if key.public_key() != certificate.public_key():
        raise BadInputError(f"{key_file} holds the key of another CA than {name}", hint="fleet ca list")
    return key


def _bring_back(home: Home, name: str, key: PrivateKey) -> None:
    """Put a key that was put away into its CA's folder, as the server opens it."""
    write_file(home.authority_files(name).ca.key, _sealed(key, read_secret(home.issuing_passphrase)))


def _sealed(key: PrivateKey, passphrase: Secret) -> bytes:
    return encrypted_pem(
        key, passphrase, randomness=os.urandom(_KEY_FILE_RANDOMNESS), work_factor=_WORK_FACTOR
    )
