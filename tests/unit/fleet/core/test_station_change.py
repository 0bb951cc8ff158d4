"""A change of rules: what is named is replaced, all else stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.station_change import RuleChange
from fleet.core.station_rules import RuleTexts, texts_of
from fleet.errors import BadInputError

RULES = RuleTexts(
    batches=("spring", "winter"),
    quotas=("spring=500", "winter=7"),
    serials=("spring=a-001..a-500", "spring=b-1..b-9"),
    shifts=("mon,tue 06:00-14:00 UTC",),
    rate_per_minute=60,
)


def after(change: RuleChange) -> RuleTexts:
    return texts_of(change.applied_to(RULES.read()))


@pytest.mark.parametrize(
    ("change", "quotas", "serials"),
    [
        (RuleChange(quotas=("spring=600",)), ("spring=600", "winter=7"), RULES.serials),
        (RuleChange(quotas=("winter=none",)), ("spring=500",), RULES.serials),
        (RuleChange(serials=("winter=c-1..c-2",)), RULES.quotas, (*RULES.serials, "winter=c-1..c-2")),
        (RuleChange(serials=("spring=none",)), RULES.quotas, ()),
        (RuleChange(batches=("winter",)), ("winter=7",), ()),
    ],
    ids=str,
)
def test_quotas_and_numbers_change_batch_by_batch(
    change: RuleChange, quotas: tuple[str, ...], serials: tuple[str, ...]
) -> None:
    found = after(change)
    assert (found.quotas, found.serials) == (quotas, serials)
    assert (found.shifts, found.rate_per_minute) == (RULES.shifts, 60)


def test_shifts_and_the_rate_can_be_taken_away() -> None:
    assert after(RuleChange(shifts=("none",))).shifts == ()
    assert after(RuleChange(shifts=("sun 00:00-12:00 UTC",))).shifts == ("sun 00:00-12:00 UTC",)
    assert after(RuleChange(rate_per_minute=0)).rate_per_minute is None
    assert after(RuleChange(rate_per_minute=9)).rate_per_minute == 9


@pytest.mark.parametrize(
    "change",
    [
        RuleChange(quotas=("autumn=5",)),
        RuleChange(batches=("winter",), quotas=("spring=5",)),
        RuleChange(quotas=("spring=none", "spring=5")),
        RuleChange(shifts=("none", "mon 06:00-14:00 UTC")),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(change: RuleChange) -> None:
    with pytest.raises(BadInputError):
        after(change)


@given(named=st.lists(st.sampled_from(["quotas", "serials", "shifts", "rate", "batches"]), unique=True))
def test_whatever_is_not_named_stays_as_it_was(named: list[str]) -> None:
    change = RuleChange(
        batches=RULES.batches if "batches" in named else (),
        quotas=("spring=1", "winter=1") if "quotas" in named else (),
        serials=("spring=z-1..z-2",) if "serials" in named else (),
        shifts=("sat 06:00-14:00 UTC",) if "shifts" in named else (),
        rate_per_minute=1 if "rate" in named else None,
    )
    found = after(change)
    assert found.batches == RULES.batches
    assert (found.quotas == RULES.quotas) is ("quotas" not in named)
    assert (found.serials == RULES.serials) is ("serials" not in named)
    assert (found.shifts == RULES.shifts) is ("shifts" not in named)
    assert (found.rate_per_minute == 60) is ("rate" not in named)
