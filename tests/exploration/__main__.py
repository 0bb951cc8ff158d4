"""`python -m tests.exploration [--deep | SCENARIO ...]`: explore by hand; the wide ones by default."""

import sys
from collections.abc import Iterable

from tests.exploration.scenarios import DEEP, WIDE
from tests.exploration.search import Result, TooManyStatesError, explore

_MOST_STATES = 20_000_000


def main() -> int:
    known = WIDE | DEEP
    results: list[Result] = []
    too_large = 0
    for name in _wanted(sys.argv[1:]):
        try:
            result = explore(known[name], most_states=_MOST_STATES)
        except TooManyStatesError as error:
            print(error, flush=True)
            too_large += 1
            continue
        print(result, *result.trace, sep="\n    ", flush=True)
        results.append(result)
    states, seconds = sum(one.states for one in results), sum(one.seconds for one in results)
    print(f"explored {states:,} states of both cores in {seconds:.0f} s")
    return min(too_large + sum(one.violation is not None for one in results), 1)


def _wanted(arguments: list[str]) -> Iterable[str]:
    return DEEP if arguments == ["--deep"] else arguments or WIDE


if __name__ == "__main__":
    sys.exit(main())
