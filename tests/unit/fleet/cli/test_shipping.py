"""Shipping a log: what was not answered is sent again as the same batch, and nothing else counts twice."""

from pathlib import Path

import pytest

from fleet.cli.client import Client
from fleet.cli.output import Members
from fleet.cli.shipping import State, load, save, ship_log
from fleet.errors import BadInputError, UnreachableError


class Server(Client):
    """Takes batches, as the real one does; `deaf` loses so many answers after it took the lines."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.taken: dict[str, list[bytes]] = {}
        self.deaf = 0

    def post_text(self, *_parts: str, body: bytes, **query: str | int | None) -> Members:
        batch = str(query["batch"])
        is_new = batch not in self.taken
        self.taken.setdefault(batch, body.splitlines())
        assert self.taken[batch] == body.splitlines()
        if self.deaf:
            self.deaf -= 1
            raise UnreachableError("the answer was lost")
        return {"found": 1 if is_new else 0}

    @property
    def lines(self) -> list[bytes]:
        return [line for lines in self.taken.values() for line in lines]


def ship(server: Server, folder: Path) -> list[str]:
    shipped = ship_log(server, folder / "log", product="nginx", name="web", state=folder / "state", once=True)
    return list(shipped)


def append(folder: Path, *lines: str) -> None:
    with (folder / "log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_each_line_is_shipped_once(tmp_path: Path) -> None:
    server = Server()
    append(tmp_path, "one", "two")
    assert ship(server, tmp_path) == ["1 refusals in 2 lines"]
    append(tmp_path, "three")
    ship(server, tmp_path)
    ship(server, tmp_path)
    assert server.lines == [b"one", b"two", b"three"]


def test_a_batch_whose_answer_was_lost_is_sent_again_as_it_was_though_more_has_come(tmp_path: Path) -> None:
    server = Server()
    append(tmp_path, "one", "two")
    server.deaf = 1
    with pytest.raises(UnreachableError):
        ship(server, tmp_path)
    append(tmp_path, "three")
    ship(server, tmp_path)
    assert server.lines == [b"one", b"two", b"three"]
    assert len(server.taken) == 2


def test_a_log_that_rotated_while_an_answer_was_lost_is_shipped_whole(tmp_path: Path) -> None:
    server = Server()
    append(tmp_path, "one")
    server.deaf = 1
    with pytest.raises(UnreachableError):
        ship(server, tmp_path)
    (tmp_path / "log").rename(tmp_path / "log.1")
    append(tmp_path, "two")
    ship(server, tmp_path)
    assert server.lines == [b"one", b"two"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"x" * 9000, b'{"beginning":1}'])
def test_what_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(BadInputError):
        load(tmp_path / "state")


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = State(beginning="ab", position=3, sent=9)
    save(tmp_path / "state", state)
    assert load(tmp_path / "state") == state
    assert load(tmp_path / "none") == State()
