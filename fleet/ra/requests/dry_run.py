"""Tries a changed configuration on what was asked before: who would be answered differently, and why.

The very code that rules on live requests rules here, once by what is in force and once by the change. It
only reads. What was refused for another reason than the profiles' stays refused whatever they say.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.config import Config
from fleet.core.ruling import Facts, Outcome, Rules, Ruling, rule
from fleet.ra.desk import Desk
from fleet.ra.requests.rulings import rules_of
from fleet.store.requests import RequestQuery, RequestRecord, list_requests

MAX_DIFFERENCES = 1000
"""That are told one by one; all of them are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A request that would be answered differently; the same one asked again counts, and is told once."""

    facts: Facts
    before: Ruling
    after: Ruling
    times: int
    last_at: datetime

    @property
    def why(self) -> str:
        """What makes the difference, in words."""
        if self.after.reason:
            return self.after.reason
        if self.before.reason:
            return f"no more: {self.before.reason}"
        if self.after.outcome is self.before.outcome:
            return ", ".join(_changes(self.before, self.after))
        wants = "an approval" if self.after.outcome is Outcome.WAITS else "no approval any more"
        return f"the profile wants {wants}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a change would do."""

    requests: int
    """That are on record."""
    undecided: int
    """Of those, how many something else than the profiles decided."""
    since: datetime | None
    """Of the oldest."""
    different: int
    """How many would be answered differently."""
    differences: tuple[Difference, ...]
    """Each kind of difference once for each device, the newest first."""


async def try_on(desk: Desk, changed: Config, *, page: int = 1000) -> Report:
    """Return what a changed configuration would do to all requests on record, read page by page."""
    trial = _Trial(now=rules_of(desk.config), then=rules_of(changed))
    query = RequestQuery(limit=page)
    while found := await desk.store.read(list_requests, query):
        trial.take(record for _, record in found)
        query = replace(query, before=found[-1][0])
    return trial.report()


class _Trial:
    """Counts as it reads; what it keeps grows with the differences alone."""

    def __init__(self, *, now: Rules, then: Rules) -> None:
        self._now = now
        self._then = then
        self._found: dict[tuple[Facts, Outcome, Outcome], Difference] = {}
        self._requests = self._undecided = self._different = 0
        self._since: datetime | None = None

    def take(self, records: Iterable[RequestRecord]) -> None:
        """Try the change on some requests, the newest first."""
        for record in records:
            self._requests += 1
            self._since = record.at
            if record.facts is None:
                self._undecided += 1
                continue
            before, after = rule(self._now, record.facts), rule(self._then, record.facts)
            if _shown(before) != _shown(after):
                self._different += 1
                self._note(record.facts, before, after, record.at)

    def report(self) -> Report:
        return Report(
            requests=self._requests,
            undecided=self._undecided,
            since=self._since,
            different=self._different,
            differences=tuple(self._found.values()),
        )

    def _note(self, facts: Facts, before: Ruling, after: Ruling, at: datetime) -> None:
        # How long ago a certificate had ended differs each time, and makes no other difference.
        key = (replace(facts, expired_for=None), before.outcome, after.outcome)
        known = self._found.get(key)
        if known is not None:
            self._found[key] = replace(known, times=known.times + 1)
        elif len(self._found) < MAX_DIFFERENCES:
            self._found[key] = Difference(facts=facts, before=before, after=after, times=1, last_at=at)


def _shown(ruling: Ruling) -> tuple[object, ...]:
    return (ruling.outcome, ruling.reason, ruling.terms and ruling.terms.told())


def _changes(before: Ruling, after: Ruling) -> list[str]:
    if before.terms is None or after.terms is None:
        return []
    pairs = zip(before.terms.told(), after.terms.told(), strict=True)
    return [f"{name} {was} -> {now}" for (name, was), (_, now) in pairs if was != now]
