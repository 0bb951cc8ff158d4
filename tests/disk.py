"""The calls that make things durable, counted: a fault can be put at any of them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class Disk:
    """The calls that make things durable, in their order; `fault` is asked before each of them."""

    def __init__(self, patch: pytest.MonkeyPatch, *, fault: Callable[[int, str], None]) -> None:
        self.count = 0
        self._fault = fault
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            if name != "mkdir" or not Path(str(arguments[0])).exists():
                self.count += 1
                self._fault(self.count, name)
            return call(*arguments, **options)

        return counted
