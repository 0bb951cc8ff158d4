"""A change of a station's rules: what is named is replaced, all else stays as it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.core.station_rules import RuleTexts, StationRules, texts_of
from fleet.errors import BadInputError

NONE = "none"
"""In place of a quota, a range or a shift: there is no such limit any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """What somebody named, as `RuleTexts` has it; empty, or None, is not named.

    Quotas and ranges are replaced batch by batch; `batches` are all that the station is to have, and what
    held for one that is no more among them goes with it.
    """

    batches: tuple[str, ...] = ()
    quotas: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()
    rate_per_minute: int | None = None
    """0 is no limit."""

    def applied_to(self, rules: StationRules) -> StationRules:
        """Return the rules after it.

        Raises:
            BadInputError: what is named is no rule, or is for none of the batches.
        """
        before = texts_of(rules)
        batches = self.batches or before.batches
        gone = frozenset(before.batches) - frozenset(batches)
        rate = before.rate_per_minute if self.rate_per_minute is None else self.rate_per_minute or None
        after = RuleTexts(
            batches=batches,
            quotas=_merged(before.quotas, self.quotas, gone=gone),
            serials=_merged(before.serials, self.serials, gone=gone),
            shifts=_listed(self.shifts) if self.shifts else before.shifts,
            rate_per_minute=rate,
        )
        return after.read()


def _merged(before: Sequence[str], named: Sequence[str], *, gone: frozenset[str]) -> tuple[str, ...]:
    """Return `<batch>=<value>` texts, those of each named batch in place of what it had."""
    batches = frozenset(text.partition("=")[0] for text in named)
    kept = (text for text in before if text.partition("=")[0] not in gone | batches)
    return (*kept, *_values(named))


def _values(named: Sequence[str]) -> Iterator[str]:
    for text in named:
        batch, _, value = text.partition("=")
        if value != NONE:
            yield text
        elif sum(other.startswith(f"{batch}=") for other in named) > 1:
            raise BadInputError(f"{batch}: none, and something else", hint="name one of both")


def _listed(shifts: tuple[str, ...]) -> tuple[str, ...]:
    if NONE in shifts and len(shifts) > 1:
        raise BadInputError("no shift, and some", hint="name one of both")
    return () if shifts == (NONE,) else shifts
