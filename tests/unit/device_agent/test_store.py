"""The state folder: record, the one before it, lock, and `current/`."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.core.stored import VERSION, StoredRecord, encode
from device_agent.errors import LockedError, StateError
from device_agent.store import CURRENT, PREVIOUS, RECORD, RecordStore, load_record, open_store
from tests.unit.device_agent.core.test_stored import FULL

ONE = StoredRecord(device_id="one")
TWO = StoredRecord(device_id="two")
FILES: dict[str, bytes | Path] = {"cert.pem": b"cert"}


def test_a_new_folder_holds_no_record(tmp_path: Path) -> None:
    with open_store(tmp_path / "state") as store:
        assert store.load() is None


def test_what_was_saved_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.save(ONE)
        store.save(TWO)
    loaded = load_record(tmp_path)
    assert loaded is not None
    assert (loaded.record, loaded.damaged) == (TWO, False)
    assert (tmp_path / PREVIOUS).read_bytes() == encode(ONE)


def test_a_second_process_does_not_get_the_folder(tmp_path: Path) -> None:
    """PROTOCOL 8, counter-example 8: two agents with one identity would look like a clone."""
    with open_store(tmp_path), pytest.raises(LockedError, match="another agent"), open_store(tmp_path):
        pass
    with open_store(tmp_path):
        pass


@pytest.mark.parametrize("damage", [b"", b"\x00" * 3000, b"fleet-device-record 1 00\n{}"])
def test_a_damaged_record_falls_back_to_the_one_before_and_skips_an_attempt(
    tmp_path: Path, damage: bytes
) -> None:
    with open_store(tmp_path) as store:
        store.save(FULL)
        store.save(TWO)
        (tmp_path / RECORD).write_bytes(damage)
        loaded = store.load()
    assert loaded is not None
    assert loaded.damaged
    assert loaded.record == replace(FULL, life=replace(FULL.life, attempt=FULL.life.attempt + 1))


def test_a_damaged_record_is_not_kept_as_the_one_before(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.save(ONE)
        (tmp_path / RECORD).write_bytes(b"junk")
        (tmp_path / PREVIOUS).write_bytes(encode(ONE))
        store.save(TWO)
    assert (tmp_path / PREVIOUS).read_bytes() == encode(ONE)


def test_two_damaged_records_are_an_error_and_stay_as_they_are(tmp_path: Path) -> None:
    for name in (RECORD, PREVIOUS):
        (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(StateError, match="cannot be read"):
        load_record(tmp_path)
    assert (tmp_path / RECORD).read_bytes() == b"junk"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
@pytest.mark.parametrize(
    ("owner", "told"), [(0x7FFF0001, "not known here"), (1, "runuser -u daemon -- device-agent")]
)
def test_root_writes_nothing_into_another_users_folder(tmp_path: Path, owner: int, told: str) -> None:
    os.chown(tmp_path, owner, owner)
    with pytest.raises(StateError) as caught, open_store(tmp_path):
        pass
    assert told in f"{caught.value} {caught.value.hint}"
    assert not list(tmp_path.iterdir())


def test_a_record_of_a_newer_agent_is_refused_and_left_alone(tmp_path: Path) -> None:
    newer = encode(ONE).replace(b" 1 ", f" {VERSION + 1} ".encode(), 1)
    (tmp_path / RECORD).write_bytes(newer)
    (tmp_path / PREVIOUS).write_bytes(encode(ONE))
    with pytest.raises(StateError, match=f"version {VERSION + 1}"):
        load_record(tmp_path)
    with pytest.raises(StateError, match="newer agent"):
        RecordStore(tmp_path).keys_in_use()
    assert (tmp_path / RECORD).read_bytes() == newer


def test_keys_of_the_record_and_of_the_one_before_are_in_use(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.save(FULL)
        store.save(ONE)
        assert store.keys_in_use() == {"k-1", "k-2"}
        store.save(TWO)
        assert store.keys_in_use() == frozenset()


def test_current_is_swapped_as_a_whole_and_older_generations_go(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "k.pem").write_bytes(b"key")
    with open_store(tmp_path) as store:
        store.publish("1", FILES)
        store.publish("2", {**FILES, "key.pem": tmp_path / "keys" / "k.pem"})
    assert str((tmp_path / CURRENT).readlink()) == "gen-2"
    assert (tmp_path / CURRENT / "key.pem").read_bytes() == b"key"
    assert not (tmp_path / "gen-1").exists()


def test_erasing_leaves_neither_record_nor_current(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.save(ONE)
        store.save(TWO)
        store.publish("1", FILES)
        store.erase()
        assert store.load() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]
