"""Divides what is short: whoever wants little gets it all, the others share the rest alike."""

from collections.abc import Sequence


def fair_shares(wanted: Sequence[int], *, most: int) -> tuple[int, ...]:
    """Return how much each gets, in their order; together never more than `most`."""
    shares = [0] * len(wanted)
    left = most
    in_order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    for served, place in enumerate(in_order):
        shares[place] = min(wanted[place], left // (len(wanted) - served))
        left -= shares[place]
    return tuple(shares)
