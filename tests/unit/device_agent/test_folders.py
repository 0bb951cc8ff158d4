"""Where the identities of a device are looked for."""

from pathlib import Path

import pytest

from device_agent.errors import StateError
from device_agent.folders import identities_in


def test_a_state_folder_that_this_user_may_not_enter_is_told_with_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: Path, _pattern: str) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "glob", refuse)
    with pytest.raises(StateError, match="permission denied") as told:
        identities_in(tmp_path)
    assert told.value.hint == "run it as the owner of the state folder"
