"""The texts of the station's screen: one TOML file a language, each with every key and no other."""

import locale
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Self

from fleet.errors import UsageError
from fleet.station.link.causes import Cause
from fleet.station.telling.events import Stage

FALLBACK = "en"


class Mark(StrEnum):
    """What a lane shows from afar: one word, with a colour beside it."""

    READY = "ready"
    BUSY = "busy"
    PASS = "pass"  # noqa: S105 - a word on a screen
    FAIL = "fail"
    WAIT = "wait"
    DONE = "done"
    """It was finished before."""
    GONE = "gone"
    """There is no adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """Texts by section and key."""

    code: str
    name: str
    texts: Mapping[tuple[str, str], str]

    @classmethod
    def load(cls, code: str) -> Self:
        """Read a language of the package.

        Raises:
            UsageError: there is none of that code.
        """
        if code not in codes():
            raise UsageError(f"there are no texts in {code}", hint=f"--language {' or '.join(codes())}")
        return cls.parse(code, files(__package__).joinpath("languages", f"{code}.toml").read_text("utf-8"))

    @classmethod
    def parse(cls, code: str, text: str) -> Self:
        """Return the language of a TOML text."""
        document = tomllib.loads(text)
        name = str(document.pop("name"))
        texts = {(part, key): str(value) for part, rows in document.items() for key, value in rows.items()}
        return cls(code=code, name=name, texts=MappingProxyType(texts))

    def mark(self, mark: Mark) -> str:
        """Return the large word."""
        return self.texts["mark", mark]

    def short(self, mark: Mark) -> str:
        """Return the word where there is room for five cells."""
        return self.texts["short", mark]

    def stage(self, stage: Stage) -> str:
        """Return what is going on."""
        return self.texts["stage", stage]

    def cause(self, cause: Cause) -> str:
        """Return what the worker does next; empty where there is nothing to do."""
        return self.texts["cause", cause]

    def say(self, key: str, **values: str | int) -> str:
        """Return a text of the screen itself, with its values in it."""
        return self.texts["screen", key].format(**values)


@cache
def codes() -> tuple[str, ...]:
    """Return the languages that there are."""
    found = (entry.name for entry in files(__package__).joinpath("languages").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def own_code() -> str:
    """Return the language of whoever sits here, as far as there are texts in it."""
    spoken = (locale.setlocale(locale.LC_CTYPE) or "").partition("_")[0]
    return spoken if spoken in codes() else FALLBACK
