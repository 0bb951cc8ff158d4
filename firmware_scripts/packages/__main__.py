"""`python -m firmware_scripts.packages`: builds the agent's wheel, zipapp and Debian package."""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_scripts.packages.dated_build import moment_of_build
from firmware_scripts.packages.deb import build_deb
from firmware_scripts.packages.tree import ROOT
from firmware_scripts.packages.wheel import build_wheel
from firmware_scripts.packages.zipapp import build_zipapp

_EXIT_BAD_INPUT = 6
_KINDS = {"wheel": build_wheel, "zipapp": build_zipapp, "deb": build_deb}


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.packages", description=__doc__)
    made.add_argument(
        "kinds", nargs="*", metavar="KIND", help="wheel, zipapp or deb; all of them without one"
    )
    made.add_argument("--output", type=Path, default=Path("dist"), metavar="DIR", help="where they go; dist")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Build; return the exit code. Each package's SHA-256 and path go to stdout, as sha256sum has them."""
    arguments = parser().parse_args(argv)
    unknown = set(arguments.kinds) - set(_KINDS)
    try:
        if unknown:
            raise ValueError(f"no package is of the kind {', '.join(sorted(unknown))}: {', '.join(_KINDS)}")
        moment = moment_of_build(ROOT)
        arguments.output.mkdir(parents=True, exist_ok=True)
        for kind in arguments.kinds or _KINDS:
            path = _KINDS[kind](arguments.output, moment=moment)
            print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
