"""Checks, one after another, each with the rule that it is from and what to do where it fails.

It runs whatever it is given: what is checked stands in the courses.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

_Subject = TypeVar("_Subject")


class Outcome(StrEnum):
    """What became of a check."""

    PASS = "pass"  # noqa: S105 - a word, no secret
    FAIL = "fail"
    NOT_REACHED = "not reached"
    """Something before it failed, or the device may leave it out and does."""


class Failure(Exception):  # noqa: N818 - it is what was found out, no error of the kit
    """The device broke the rule; the text says how."""


class Absent(Exception):  # noqa: N818 - as above
    """The device does not have what it may leave out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[_Subject]):
    """One rule. `after` names the checks that must have passed before it makes sense."""

    name: str
    title: str
    rule: str
    """The page and its section."""
    advice: str
    act: Callable[[_Subject], Awaitable[None]]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out of one check."""

    name: str
    title: str
    outcome: Outcome
    detail: str
    rule: str
    advice: str


async def run(
    checks: Sequence[Check[_Subject]], subject: _Subject, *, report: Callable[[Result], None]
) -> tuple[Result, ...]:
    """Make the checks in their order; `report` is called with each result as it comes."""
    results: list[Result] = []
    passed: set[str] = set()
    for check in checks:
        missing = [name for name in check.after if name not in passed]
        outcome, detail = (
            (Outcome.NOT_REACHED, f"needs {missing[0]}") if missing else await _outcome(check, subject)
        )
        if outcome is Outcome.PASS:
            passed.add(check.name)
        result = Result(
            name=check.name,
            title=check.title,
            outcome=outcome,
            detail=detail,
            rule=check.rule,
            advice=check.advice if outcome is Outcome.FAIL else "",
        )
        results.append(result)
        report(result)
    return tuple(results)


async def _outcome(check: Check[_Subject], subject: _Subject) -> tuple[Outcome, str]:
    try:
        await check.act(subject)
    except Failure as failure:
        return Outcome.FAIL, str(failure)
    except Absent as absent:
        return Outcome.NOT_REACHED, str(absent)
    return Outcome.PASS, ""


def is_conformant(results: Iterable[Result]) -> bool:
    """Return whether nothing failed."""
    return all(result.outcome is not Outcome.FAIL for result in results)
