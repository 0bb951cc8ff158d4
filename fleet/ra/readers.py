"""Readers of logs that are shipped here: each remembers what belongs to the next line of its log."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from fleet.core.log_lines import Product, Reader
from fleet.core.log_readers import reader_of

_MOST_READERS = 1024


@dataclass(slots=True)
class Readers:
    """By place and product, the busiest ones only."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of whoever reads lines in a thread: a reader is for one at a time."""
    _known: OrderedDict[tuple[str, Product], Reader] = field(default_factory=OrderedDict)

    def of(self, place: str, product: Product) -> Reader:
        """Return the reader of a place."""
        reader = self._known.setdefault((place, product), reader_of(product))
        self._known.move_to_end((place, product))
        if len(self._known) > _MOST_READERS:
            self._known.popitem(last=False)
        return reader
