"""`python -m tests.exploration [SCENARIO ...]`: explore by hand, the wide ones where none is named."""

import sys

from tests.exploration.scenarios import DEEP, WIDE
from tests.exploration.search import explore


def main() -> int:
    known = WIDE | DEEP
    unsound = 0
    for name in sys.argv[1:] or WIDE:
        result = explore(known[name], most_states=20_000_000)
        print(result, *result.trace, sep="\n    ", flush=True)
        unsound += result.violation is not None
    return min(unsound, 1)


if __name__ == "__main__":
    sys.exit(main())
