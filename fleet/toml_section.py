"""Reads the members of a TOML table one by one, each with its type and bounds; what is left over is refused.

Errors name file and line. It never repeats a value in an error: the file could hold what it should not.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?", re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN_HTTP = re.compile(
    rf"http://(?=.{{1,253}}\Z)(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]{{0,4}})?", re.ASCII
)

_Word = TypeVar("_Word", bound=StrEnum)
_Choice = TypeVar("_Choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Finds the line of a key again: tomllib tells values, not where they stood."""

    source: str
    text: str

    def line(self, path: Sequence[str], key: str | None) -> int | None:
        """Return the line of `key` in the section `path`, or of its header, or None."""
        section: tuple[str, ...] = ()
        header: int | None = None if path else 1
        for number, line in enumerate(self.text.splitlines(), start=1):
            if (found := _header(line)) is not None:
                section = found
                if section[: len(path)] == tuple(path):
                    header = header or number
                    if key is not None and section[len(path) :][:1] == (key,):
                        return number
            elif key is not None and (*section, *_key(line)) == (*path, key):
                return number
            elif (*section, *_key(line)) == tuple(path):
                header = header or number  # an inline table
        return header

    def within(self, path: Sequence[str], place: int) -> "Where":
        """Return the text of one table of an array, counted from 0, on the lines on which it stands."""
        kept, found = list[str](), -1
        for line in self.text.splitlines():
            found += _is_item(line) and _header(line) == tuple(path)
            kept.append(line if found == place else "")
        return Where(source=self.source, text="\n".join(kept))


def _header(line: str) -> tuple[str, ...] | None:
    match = re.match(r"\s*\[{1,2}([^\[\]]+)\]{1,2}\s*(?:#.*)?$", line)
    return None if match is None else _parts(match.group(1))


def _is_item(line: str) -> bool:
    return line.lstrip().startswith("[[")


def _key(line: str) -> tuple[str, ...]:
    match = re.match(r"\s*([^#=]+?)\s*=", line)
    return () if match is None else _parts(match.group(1))


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def is_plain_http(text: str) -> bool:
    """Tell whether a text is `http://HOST[:PORT]`, with no path: how addresses in certificates begin."""
    return _PLAIN_HTTP.fullmatch(text) is not None


class Section:
    """The members of one table; what was not asked for when it is closed is unknown, and refused."""

    __slots__ = ("_asked", "_members", "_path", "_where")

    def __init__(self, members: Mapping[str, object], *, where: Where, path: tuple[str, ...]) -> None:
        self._members = members
        self._where = where
        self._path = path
        self._asked: list[str] = []

    def names(self) -> tuple[str, ...]:
        """Return the names of all members."""
        return tuple(self._members)

    def section(self, name: str) -> "Section":
        """Return a table inside this one; absent counts as empty."""
        value = self._take(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error(name, f"{name} must be a table", hint=f"write [{'.'.join((*self._path, name))}]")
        return Section(value, where=self._where, path=(*self._path, name))

    def tables(self, name: str, *, most: int) -> "tuple[Section, ...]":
        """Return the tables of an array, at most so many; absent counts as none."""
        value = self._take(name)
        path = (*self._path, name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.error(name, f"{name} must be an array of tables", hint=f"write [[{'.'.join(path)}]]")
        if len(value) > most:
            raise self.error(name, f"there are more than {most} of {name}", hint="make one of several")
        return tuple(
            Section(each, where=self._where.within(path, place), path=path)
            for place, each in enumerate(value)
        )

    def label(self, name: str) -> str:
        """Return a name that is a DNS label; it must be there."""
        value = self._take(name)
        try:
            return parse_domain(value)
        except MalformedMessageError as error:
            raise self.error(name, f"{name}: {error}", hint=f'such as {name} = "acme"') from error

    def host(self, name: str, default: str) -> str:
        """Return a host name or an IP address."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str) and _HOST.fullmatch(value):
            return value
        raise self.error(name, f"{name} must be a host name or an address", hint=f'such as "{default}"')

    def plain_http(self, name: str, default: str) -> str:
        """Return the root of plain http addresses, `http://HOST[:PORT]`; empty is a value too."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str) and (not value or is_plain_http(value)):
            return value
        raise self.error(
            name,
            f"{name} must be http://HOST or http://HOST:PORT",
            hint=f'such as {name} = "http://pki.example.org"',
        )

    def file(self, name: str) -> Path | None:
        """Return the path of a file, which is absolute; None where none is named."""
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, str) and value.isprintable() and Path(value).is_absolute():
            return Path(value)
        hint = f'such as {name} = "/etc/fleet/{name}.pem"'
        raise self.error(name, f"{name} must be the absolute path of a file", hint=hint)

    def text(self, name: str, default: str, *, longest: int) -> str:
        """Return printable text of at most so many characters."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str) and len(value) <= longest and value.isprintable():
            return value
        raise self.error(
            name, f"{name} must be text of at most {longest} characters", hint=f'such as {name} = "..."'
        )

    def integer(self, name: str, default: int, *, bounds: tuple[int, int]) -> int:
        """Return an integer in a closed range."""
        value = self._take(name)
        if value is None:
            return default
        lowest, highest = bounds
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        raise self.error(
            name, f"{name} must be an integer from {lowest} to {highest}", hint=f"the default is {default}"
        )

    def integers(
        self, name: str, default: tuple[int, ...], *, bounds: tuple[int, int], most: int
    ) -> tuple[int, ...]:
        """Return a list of at most so many integers in a closed range."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, list) and len(value) <= most:
            found = [
                each
                for each in value
                if isinstance(each, int) and not isinstance(each, bool) and bounds[0] <= each <= bounds[1]
            ]
            if len(found) == len(value):
                return tuple(found)
        message = f"{name} must be a list of at most {most} integers from {bounds[0]} to {bounds[1]}"
        raise self.error(name, message, hint=f"the default is {list(default)}")

    def integer_or_none(self, name: str, *, bounds: tuple[int, int]) -> int | None:
        """Return an integer in a closed range, or None where there is none."""
        if name not in self._members:
            self._asked.append(name)
            return None
        return self.integer(name, bounds[0], bounds=bounds)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self.error(name, f"{name} must be true or false", hint=f"the default is {str(default).lower()}")

    def word(self, name: str, default: _Word, *, words: type[_Word]) -> _Word:
        """Return one of the words of an enumeration."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str) and value in {word.value for word in words}:
            return words(value)
        raise self.error(
            name, f"{name} must be one of {', '.join(words)}", hint=f"the default is {default.value}"
        )

    def choice(self, name: str, default: _Choice, *, choices: Mapping[str, _Choice]) -> _Choice:
        """Return what one of some words stands for."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str) and value in choices:
            return choices[value]
        raise self.error(name, f"{name} must be one of {', '.join(choices)}", hint="the least comes first")

    def words(self, name: str, default: Sequence[_Word], *, words: type[_Word]) -> tuple[_Word, ...]:
        """Return a list of words of an enumeration: at least one, each once, in the order given."""
        value = self._take(name)
        if value is None:
            return tuple(default)
        known = {word.value for word in words}
        if isinstance(value, list) and value and all(each in known for each in value):
            found = tuple(words(each) for each in value)
            if len(set(found)) == len(found):
                return found
        raise self.error(
            name,
            f"{name} must be a list of some of {', '.join(words)}",
            hint=f'such as {name} = ["{next(iter(words)).value}"]',
        )

    def texts(self, name: str, default: tuple[str, ...], *, most: int) -> tuple[str, ...]:
        """Return a list of at most so many texts."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, list) and len(value) <= most and all(isinstance(each, str) for each in value):
            return tuple(str(each) for each in value)
        raise self.error(
            name, f"{name} must be a list of at most {most} texts", hint=f'such as {name} = ["..."]'
        )

    def fraction(self, name: str, default: float, *, bounds: tuple[float, float]) -> float:
        """Return a number in a closed range."""
        value = self._take(name)
        if value is None:
            return default
        lowest, highest = bounds
        if isinstance(value, int | float) and not isinstance(value, bool) and lowest <= value <= highest:
            return float(value)
        raise self.error(
            name, f"{name} must be a number from {lowest} to {highest}", hint=f"the default is {default:.2f}"
        )

    def close(self) -> None:
        """Refuse what nobody asked for."""
        for name in self._members:
            if name not in self._asked:
                near = difflib.get_close_matches(name, self._asked, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(self._asked)}"
                place = f"[{'.'.join(self._path)}]" if self._path else "the file"
                raise self.error(name, f"unknown key {name!r} in {place}", hint=hint)

    def error(self, name: str | None, message: str, *, hint: str) -> BadInputError:
        """Return the error for a member of this table, with its file and line."""
        line = self._where.line(self._path, name)
        place = self._where.source if line is None else f"{self._where.source}:{line}"
        return BadInputError(f"{place}: {message}", hint=hint)

    def _take(self, name: str) -> object:
        self._asked.append(name)
        return self._members.get(name)
