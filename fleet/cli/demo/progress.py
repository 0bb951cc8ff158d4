"""What people see while the demo plays, on stderr: the running step, what happens in it, how it ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from fleet.cli.output import Members, console, say, visible

Tell: TypeAlias = Callable[[str], None]


class Progress:
    """A spinner with the last word on a terminal, lines elsewhere."""

    def __init__(self, total: int) -> None:
        self._console = console(stderr=True)
        self._total = total
        self._number = 0
        self._tell: Tell = say

    def tell(self, text: str) -> None:
        """Say what happens in the running step."""
        self._tell(text)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show a step as the running one."""
        self._number += 1
        head = f"{self._number}/{self._total}  {title}"
        if not self._console.is_terminal:
            say(head)
            self._tell = lambda text: say(f"     {text}")
            yield
            return
        with self._console.status(head, spinner="dots") as status:
            self._tell = lambda text: status.update(f"{head}  [dim]{_plain(text)}[/dim]")
            yield

    def done(self, row: Members) -> None:
        """Tell how a step ended."""
        failed = row["result"] != "ok"
        if not self._console.is_terminal:
            say(f"     {row['result']}, {row['seconds']} s: {row['proved']}")
            return
        line = f"{row['result']!s:<6} {row['step']!s:<28} {row['seconds']} s"
        self._console.print(line, style="bold red" if failed else "green")


def _plain(text: str) -> str:
    return visible(text).replace("[", "\\[")
