"""The small program that auditors have, against everything that can be done to evidence."""

import ast
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cli import audit_verifier
from fleet.cli.audit_verifier import NotProvenError, check_proof, check_trail
from tests.evidence import SIZE, Evidence, evidence_of

PROGRAM = Path(audit_verifier.__file__)
OURS = asyncio.run(evidence_of("acme"))
OTHER = asyncio.run(evidence_of("acme", actor="operator:eve"))
ELSEWHERE = asyncio.run(evidence_of("zeta"))

sizes = st.integers(1, SIZE)
numbers = st.integers(0, SIZE - 1)
asked = st.one_of(st.none(), numbers)


def refused(content: bytes, head: bytes, *, by: Evidence = OURS) -> bool:
    try:
        check_proof(content, head=head, key=by.key)
    except NotProvenError as error:
        return str(error) != ""
    return False


def trail_refused(lines: list[str] | tuple[str, ...], head: bytes) -> bool:
    try:
        check_trail("\n".join(lines).encode(), head=head, key=OURS.key)
    except NotProvenError as error:
        return str(error) != ""
    return False


@pytest.mark.parametrize("size", range(1, SIZE + 1))
@pytest.mark.parametrize("number", [None, *range(SIZE)])
def test_every_entry_is_proven_to_whoever_kept_any_head(number: int | None, size: int) -> None:
    said = check_proof(OURS.proofs[number, size], head=OURS.heads[size], key=OURS.key)
    assert f"begin with the {size} you knew" in said
    assert (number is None) == ("as it was recorded" not in said)


@given(asked, sizes, sizes)
def test_a_proof_for_another_head_proves_nothing(number: int | None, size: int, kept: int) -> None:
    assert refused(OURS.proofs[number, size], OURS.heads[kept]) == (size != kept)


@given(asked, sizes, st.sampled_from([OTHER, ELSEWHERE]))
def test_a_proof_of_another_trail_proves_nothing(number: int | None, size: int, other: Evidence) -> None:
    content, head = OURS.proofs[number, size], OURS.heads[size]
    assert refused(content, head, by=other)
    assert refused(content, other.heads[size])
    assert refused(content, other.heads[size], by=other)
    assert refused(other.proofs[number, size], head)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the way to every member and item of a JSON value."""
    below: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        below = list(value.items())
    elif isinstance(value, list):
        below = list(enumerate(value))
    return [found for key, member in below for found in [(*path, key), *places(member, (*path, key))]]


def changed(value: object) -> object:
    """Return something else of the same kind."""
    match value:
        case str():
            return ("1" if value[:1] == "0" else "0") + value[1:]
        case int():
            return value + 1
        case list():
            return value[1:] if value else ["0" * 64]
        case dict():
            return {}
        case _:
            return 1


@given(numbers, sizes, st.data())
def test_whatever_is_edited_in_a_proof_is_found(number: int, size: int, data: st.DataObject) -> None:
    proof = json.loads(OURS.proofs[number, size])
    *way, last = data.draw(st.sampled_from(places(proof)))
    place = proof
    for step in way:
        place = place[step]
    remove = data.draw(st.booleans())
    if remove:
        del place[last]
    else:
        place[last] = changed(place[last])
    # The hash beside an entry may be left out: what counts is computed.
    is_harmless = remove and last == "leaf_hash"
    assert refused(json.dumps(proof).encode(), OURS.heads[size]) != is_harmless


@given(numbers, sizes, numbers)
def test_an_entry_is_not_proven_in_the_place_of_another(number: int, size: int, other: int) -> None:
    proof = json.loads(OURS.proofs[number, size])
    proof["entry"] = json.loads(OURS.proofs[other, size])["entry"]
    assert refused(json.dumps(proof).encode(), OURS.heads[size]) == (number != other)


@given(numbers, st.sampled_from(["entry", "head", "consistency", "inclusion", "earlier_size"]))
def test_a_member_that_is_said_twice_is_refused(number: int, name: str) -> None:
    content = OURS.proofs[number, SIZE].decode()
    twice = f'{{"{name}": {json.dumps(json.loads(content)[name])}, {content[1:]}'
    assert refused(twice.encode(), OURS.heads[SIZE])


def test_what_was_not_recorded_cannot_be_written_beside_an_entry() -> None:
    proof = json.loads(OURS.proofs[3, SIZE])
    proof["entry"]["approved_by"] = "the board"
    assert refused(json.dumps(proof).encode(), OURS.heads[SIZE])


@given(st.integers(0, 400), asked)
def test_a_proof_that_was_cut_off_is_refused(length: int, number: int | None) -> None:
    assert refused(OURS.proofs[number, 5][:length], OURS.heads[5])


@given(st.binary(max_size=60))
def test_what_is_no_proof_head_or_key_is_refused(content: bytes) -> None:
    assert refused(content, OURS.heads[5])
    assert refused(OURS.proofs[None, 5], content)
    with pytest.raises(NotProvenError):
        check_proof(OURS.proofs[None, 5], head=OURS.heads[5], key=content)


@given(sizes)
def test_a_whole_trail_is_proven_to_whoever_kept_any_head(size: int) -> None:
    assert "13 entries of acme" in check_trail(OURS.trail, head=OURS.heads[size], key=OURS.key)


def swapped(lines: list[str], one: int, other: int) -> list[str]:
    lines[one], lines[other] = lines[other], lines[one]
    return lines


CHANGES: dict[str, Callable[[list[str], int, int], list[str]]] = {
    "delete": lambda lines, one, _: lines[:one] + lines[one + 1 :],
    "reorder": lambda lines, one, other: swapped(lines, one, (one + 1 + other % (SIZE - 1)) % SIZE),
    "repeat": lambda lines, one, other: [*lines[:other], lines[one], *lines[other:]],
    "edit": lambda lines, one, _: [*lines[:one], lines[one].replace("ada", "eve"), *lines[one + 1 :]],
    "exchange": lambda lines, one, _: [*lines[:one], OTHER.lines[one], *lines[one + 1 :]],
    "truncate": lambda lines, one, _: lines[:one],
    "cut out the end": lambda lines, one, _: [*lines[:one], lines[-1]],
    "cut in an entry": lambda lines, one, other: [*lines[:one], lines[one][: other + 1]],
}


@pytest.mark.parametrize("change", CHANGES)
@given(numbers, numbers, sizes)
def test_whatever_is_done_to_a_trail_is_found(change: str, one: int, other: int, size: int) -> None:
    assert trail_refused(CHANGES[change](list(OURS.lines), one, other), OURS.heads[size])


def test_a_whole_new_history_under_the_right_key_is_found_by_the_head_that_was_kept() -> None:
    with pytest.raises(NotProvenError, match="did not sign"):
        check_trail(OTHER.trail, head=OURS.heads[5], key=OURS.key)
    shorter = [*OURS.lines[:7], OURS.heads[7].decode()]
    assert not trail_refused(shorter, OURS.heads[7])
    assert trail_refused(shorter, OURS.heads[8])


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "verify_audit.py", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def handed_over(tmp_path: Path) -> Path:
    (tmp_path / "verify_audit.py").write_bytes(PROGRAM.read_bytes())
    (tmp_path / "proof.json").write_bytes(OURS.proofs[3, 5])
    (tmp_path / "trail.jsonl").write_bytes(OURS.trail)
    (tmp_path / "head.json").write_bytes(OURS.heads[5])
    (tmp_path / "other.json").write_bytes(OURS.heads[6])
    (tmp_path / "public.pem").write_bytes(OURS.key)
    return tmp_path


@pytest.mark.parametrize("evidence", [("--proof", "proof.json"), ("--trail", "trail.jsonl")])
def test_the_program_runs_by_itself(handed_over: Path, evidence: tuple[str, str]) -> None:
    done = run(handed_over, *evidence, "--head", "head.json", "--key", "public.pem")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("proven: ")


@pytest.mark.parametrize("head", ["other.json", "public.pem", "missing.json"])
def test_the_program_says_why_it_is_not_proven(handed_over: Path, head: str) -> None:
    done = run(handed_over, "--proof", "proof.json", "--head", head, "--key", "public.pem")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not proven: ")
    assert "Traceback" not in done.stderr


def test_an_auditor_can_read_the_program() -> None:
    text = PROGRAM.read_text()
    assert sum(1 for line in text.splitlines() if line.strip()) < 170
    imported = {
        (name.module or "") if isinstance(name, ast.ImportFrom) else name.names[0].name
        for name in ast.walk(ast.parse(text))
        if isinstance(name, ast.Import | ast.ImportFrom)
    }
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign == {"cryptography"}
