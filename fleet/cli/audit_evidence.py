"""`fleet audit head`, `prove` and `verifier`: what an auditor is handed; and `verify` of it, off line."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.audit_verifier import NotProvenError, check_proof, check_trail
from fleet.cli.client import with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Form, write_json, write_text
from fleet.core.audit import TreeHead
from fleet.errors import BadInputError, NeedsAttentionError, UsageError
from fleet.store.seal import parse_head


@click.command()
@options.place
def head(home: Place) -> None:
    """Print the newest signed head of the trail. Whoever keeps it sees whether that part is ever changed."""
    write_json(with_client(home, lambda client: client.get("audit", "head")))


@click.command()
@options.place
@click.argument("entry", type=click.IntRange(0), required=False)
@click.option(
    "--from", "earlier", type=click.Path(path_type=Path), metavar="HEAD", help="A signed head that was kept."
)
def prove(home: Place, *, entry: int | None, earlier: Path | None) -> None:
    """Print what proves an entry by its number, for the newest signed head (RFC 9162 2.1.3).

    With --from, that the trail carries on from a head that somebody kept (RFC 9162 2.1.4); with both, both.
    It is checked, off line, by fleet audit verify --proof, or by the file that fleet audit verifier prints.
    """
    if entry is None and earlier is None:
        raise UsageError("nothing to prove was named", hint="the number of an entry, or --from HEAD, or both")
    known = None if earlier is None else _kept(earlier)
    size, root = (None, None) if known is None else (known.size, known.root.hex())
    write_json(
        with_client(
            home,
            lambda client: client.get("audit", "proof", entry=entry, earlier_size=size, earlier_root=root),
        )
    )


def _kept(file: Path) -> TreeHead:
    content = content_of(file)
    try:
        return parse_head(content).head
    except BadInputError as error:
        raise BadInputError(f"{file} holds no signed head", hint="fleet audit head prints one") from error


@click.command()
def verifier() -> None:
    """Print a small program that checks proofs and exported trails: it needs Python and cryptography only."""
    write_text(files("fleet.cli").joinpath("audit_verifier.py").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The files that the options of `fleet audit verify` name."""

    proof: Path | None
    trail: Path | None
    head: Path | None
    key: Path | None


def show_evidence(form: Form, evidence: Evidence) -> None:
    """Check a proof or a trail against a head that was kept, and say what it shows.

    Raises:
        UsageError: the options do not fit together.
        NeedsAttentionError: it is not proven.
    """
    match evidence:
        case Evidence(proof=Path() as file, trail=None, head=Path() as kept, key=Path() as key):
            check = check_proof
        case Evidence(proof=None, trail=Path() as file, head=Path() as kept, key=Path() as key):
            check = check_trail
        case _:
            hint = "--proof FILE --head FILE --key FILE, or --trail FILE --head FILE --key FILE"
            raise UsageError("evidence is checked against a head and a key", hint=hint)
    try:
        shown = check(content_of(file), head=content_of(kept), key=content_of(key))
    except NotProvenError as error:
        raise NeedsAttentionError(f"not proven: {error}", hint="keep the files: they are evidence") from error
    write_json({"proven": shown}) if form is not Form.TABLE else write_text(f"proven: {shown}")
