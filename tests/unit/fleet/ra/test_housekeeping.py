"""One job of housekeeping that fails, be it by a defect, holds up neither the others nor the service."""

import pytest

from fleet.errors import StoreError
from fleet.ra.context import Context
from fleet.ra.keeping import housekeeping
from fleet.ra.keeping.housekeeping import begin, tick
from tests.desk import Desk


@pytest.mark.parametrize("job", ["expire_proposals", "forget_requests", "expire_pleas"])
@pytest.mark.parametrize("error", [ValueError("a row that cannot be read"), StoreError("away")])
async def test_a_job_that_fails_is_told_and_the_others_are_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, job: str, error: Exception
) -> None:
    done: list[str] = []

    async def fails(_context: Context) -> None:
        raise error

    async def last(_context: Context) -> None:
        done.append("lists")

    monkeypatch.setattr(housekeeping, job, fails)
    monkeypatch.setattr(housekeeping, "refresh_lists", last)
    await tick(desk.context)
    await begin(desk.context)
    assert done == ["lists", "lists"]
    assert "housekeeping" in caplog.text
