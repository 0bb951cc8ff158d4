"""`fleet ca rollover ...`, `fleet ca retire`: a root or an issuing CA is followed by the next."""

import base64
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from device_agent.wire.trust import TrustBundle
from fleet.ca.ceremony import Commission, Hand, Signed, open_old, perform
from fleet.ca.root_at_hand import IssuingOrder
from fleet.cli import options, rehearsal, root_key
from fleet.cli.ca_add import like
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, items_of, say, show_list, show_record
from fleet.cli.table import Column
from fleet.errors import ExitCode, FleetError
from fleet.files import PUBLIC_MODE, write_file
from fleet.home import AuthorityFiles
from fleet.model import Purpose

_COLUMNS = (
    Column(title="REALM", member="realm", whole=True),
    Column(title="KIND", member="kind"),
    Column(title="STATE", member="state"),
    Column(title="NEXT", member="next"),
    Column(title="BUNDLE", member="version"),
    Column(title="SINCE", member="changed_at"),
)
_NAMES = {
    "realm": "realm",
    "kind": "kind",
    "state": "state",
    "next": "next",
    "gives_up": "gives up",
    "brings": "brings",
    "standing_by": "standing by",
    "version": "bundle",
    "devices": "devices",
    "acknowledged": "acknowledged",
    "silent": "not heard of",
    "plain": "say nothing",
    "needed_by": "still needed by",
    "needing": "namely",
    "refused": "refused it",
    "notices_left": "to be told",
    "renewed_early": "renew early",
    "changed_at": "since",
}
_STEP_NAMES = _NAMES | {"changes": "CAs", "told": "told", "refusal": "refused"}

realm_argument = click.argument("realm", metavar="REALM")


@click.group("rollover")
def rollover() -> None:
    """Replace a root or an issuing CA, step by step: prepare, publish, switch, retire.

    REALM is a domain, or `fleet` for the root that servers are trusted by.
    """


@rollover.command("list")
@options.listing
def list_rollovers(home: Place, form: Form) -> None:
    """List the rollovers, the oldest first."""
    with_client(home, lambda client: show_list(client.items("rollovers"), form, columns=_COLUMNS))


@rollover.command()
@options.record
@realm_argument
def status(home: Place, form: Form, *, realm: str) -> None:
    """Show where the newest rollover of a realm stands, and who holds it up."""
    _show(with_client(home, lambda client: client.get("rollovers", realm)), form, names=_NAMES)


@rollover.command()
@options.record
@root_key.options
@rehearsal.option
@click.option(
    "--new-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the new root's key is written [the home's; below --root].",
)
@click.argument("name", metavar="NAME")
def prepare(
    home: Place,
    form: Form,
    *,
    name: str,
    root_folder: Path | None,
    new_root: Path | None,
    passphrase_file: Path | None,
    rehearse: bool,
) -> None:
    """Make the new keys, and let the old and the new root sign for each other.

    NAME is a realm, whose root is to be followed with all CAs under it, or an issuing CA, as
    `fleet ca list` names it; the steps after this one take the realm. The root's key must be at hand, and is
    opened before anything is made. Nobody is told of anything yet. A rehearsal tries the key, if it is given
    the passphrase.
    """

    def act(client: Client) -> Members:
        foreseen = client.post("rollovers", body={"name": name, "rehearse": True})
        if rehearse and passphrase_file is None:
            return foreseen
        files = root_key.folder_of(home, root_folder, str(foreseen["root"]))
        hand = Hand(
            files=files,
            passphrase=root_key.opener(home, passphrase_file, files),
            now=datetime.now(UTC).replace(microsecond=0),
            randomness=os.urandom,
            next_files=_next_files(home, foreseen, root_folder, new_root),
        )
        hand = replace(hand, opened=open_old(_commission(foreseen), hand))
        if rehearse:
            return foreseen
        prepared = _prepared(client, name, hand)
        return {**prepared, "standing_by": foreseen["standing_by"]}

    found = with_client(home, act)
    _show(found, form, names=_NAMES)
    _say_of_standbys(found)
    if rehearse:
        rehearsal.say_rehearsed(form)
    else:
        say(f"next: fleet ca rollover {found['next']} {found['realm']}")


def _prepared(client: Client, name: str, hand: Hand) -> Members:
    """Have the new CAs made and signed; where that fails half-way, say what stays."""
    realm = name.partition("/")[0]
    try:
        order = client.post("rollovers", body={"name": name})
        signed = perform(_commission(order), hand)
        return client.post("rollovers", realm, "material", body=_material(signed))
    except BaseException:
        with suppress(FleetError):
            if client.get("rollovers", realm)["state"] == "requested":
                say(f"the rollover of {realm} stays requested: fleet ca rollover prepare {name} goes on,")
                say(f"fleet ca rollover abandon {realm} gives it up")
        raise


def _say_of_standbys(found: Members) -> None:
    names = found["standing_by"]
    assert isinstance(names, list)  # noqa: S101 - our own server's answer
    for name in names:
        say(f"{name} stands by under the root that is given up, and cannot take over from the switch on:")
        say(f"make it anew then, {like(str(name))} --standby, and fleet ca retire {name}")


@rollover.command()
@options.record
@rehearsal.option
@realm_argument
def publish(home: Place, form: Form, *, realm: str, rehearse: bool) -> None:
    """Tell all devices of the realm to trust the new root beside the old one."""
    _step(home, form, realm, "publish", {"rehearse": rehearse})


@rollover.command()
@options.record
@rehearsal.option
@click.option("--anyway", is_flag=True, help="Go on although devices have not acknowledged the bundle.")
@realm_argument
def switch(home: Place, form: Form, *, realm: str, rehearse: bool, anyway: bool) -> None:
    """Let the new CA sign; what the old one signed is still believed.

    Refused while a device has not acknowledged the bundle. Clients that say nothing, such as those of
    EST, are counted apart and waited for by nobody.
    """
    _step(home, form, realm, "switch", {"rehearse": rehearse, "anyway": anyway})


@rollover.command()
@options.record
@rehearsal.option
@realm_argument
def abandon(home: Place, form: Form, *, realm: str, rehearse: bool) -> None:
    """Give up a rollover of which nobody was told yet."""
    _step(home, form, realm, "abandon", {"rehearse": rehearse})


@rollover.command()
@options.place
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it [standard output]."
)
@realm_argument
def bundle(home: Place, *, realm: str, out: Path | None) -> None:
    """Print the trust bundle that is in force, for `device-agent trust` on a device without a network."""
    found = with_client(home, lambda client: client.get("rollovers", realm, "bundle"))
    text = json.dumps(found, indent=1) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_file(out, text.encode(), mode=PUBLIC_MODE)
        say(f"wrote {out}")


@click.command()
@options.record
@rehearsal.option
@click.argument("name", metavar="NAME")
def retire(home: Place, form: Form, *, name: str, rehearse: bool) -> None:
    """Give up what a rollover has replaced, once nobody needs it; who still does is named.

    NAME is the realm of the rollover, or an issuing CA that has stopped and takes part in none.
    """
    if "/" not in name:
        _step(home, form, name, "retire", {"rehearse": rehearse})
        return
    body: dict[str, Json] = {"rehearse": True} if rehearse else {}
    found = with_client(home, lambda client: client.post("authorities", name, "retire", body=body))
    show_record(found, form, names={"name": "CA", "before": "was", "after": "is", "needed_by": "needed by"})
    if rehearse:
        rehearsal.say_rehearsed(form)


COMMANDS: tuple[click.Command, ...] = (rollover, retire)


def _step(home: Place, form: Form, realm: str, step: str, flags: dict[str, bool]) -> None:
    body = {name: True for name, is_set in flags.items() if is_set}
    found = with_client(home, lambda client: client.post("rollovers", realm, step, body=body))
    _show(found, form, names=_STEP_NAMES)
    if flags["rehearse"]:
        rehearsal.say_rehearsed(form)
        click.get_current_context().exit(ExitCode.REFUSED if found["refusal"] else ExitCode.DONE)
    if found["next"] is not None:
        group = "fleet ca" if found["next"] == "retire" else "fleet ca rollover"
        say(f"next: {group} {found['next']} {realm}")


def _show(found: Members, form: Form, *, names: Mapping[str, str]) -> None:
    """Show a rollover; for people without what is empty, and each change in one phrase."""
    if form is Form.TABLE:
        told = {name: value for name, value in found.items() if value not in (None, [], "")}
        if changes := items_of(found.get("changes")):
            told["changes"] = [f"{one['name']} {one['before']} -> {one['after']}" for one in changes]
        if refused := items_of(found.get("refused")):
            told["refused"] = [f"{one['device']} {one['problem']}" for one in refused]
        found = told
    show_record(found, form, names={name: title for name, title in names.items() if name in found})


def _next_files(
    home: Place, order: Members, root_folder: Path | None, new_root: Path | None
) -> AuthorityFiles | None:
    """Return where the next root is made; None where an issuing CA alone is followed."""
    brings = order["brings"]
    assert isinstance(brings, list)  # noqa: S101 - our own server's answer
    names = [str(name) for name in brings if str(name).rpartition("/")[2].startswith("root-")]
    if not names:
        return None
    if new_root is None and root_folder is not None:
        return AuthorityFiles(folder=root_folder / names[0].rpartition("/")[2])
    return root_key.folder_of(home, new_root, names[0])


def _commission(order: Members) -> Commission:
    requests = [
        (
            str(one["name"]),
            IssuingOrder(
                csr_pem=str(one["csr"]),
                common_name=str(one["common_name"]),
                purpose=Purpose(str(one["purpose"])),
                status_url=str(order["status_url"]),
            ),
        )
        for one in items_of(order["requests"])
    ]
    version = order["version"]
    return Commission(
        fleet=str(order["fleet"]),
        realm=str(order["realm"]),
        status_url=str(order["status_url"]),
        root_pem=str(order["root_pem"]),
        requests=tuple(requests),
        version=version if isinstance(version, int) else None,
        beside_pem=str(order["beside_pem"] or ""),
        links_pem=str(order["links_pem"] or ""),
    )


def _material(signed: Signed) -> Members:
    found: dict[str, Json] = {
        "certificates": [{"name": name, "certificate": pem} for name, pem in signed.certificates]
    }
    if signed.root is not None:
        found["root"] = {
            "certificate": signed.root.certificate_pem,
            "crl": base64.b64encode(signed.root.crl).decode(),
            "link": signed.root.link_pem,
            "link_back": signed.root.back_pem,
            "bundles": [_bundle(each) for each in signed.root.bundles],
        }
    return found


def _bundle(bundle: TrustBundle) -> Members:
    return {
        "realm": bundle.realm,
        "version": bundle.version,
        "anchors": bundle.anchors,
        "links": bundle.links,
        "signature": bundle.signature.hex(),
    }
