"""`python -m firmware_scripts.linux.yocto`: writes a Yocto layer whose one recipe puts the agent on an image.

The recipe takes the zipapp and the overlay as they are, so nothing is fetched while an image is built.
The same input gives the same files.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from firmware_scripts.packages.wheel import version

_EXIT_BAD_INPUT = 6
_LAYER = resources.files("firmware_scripts.linux") / "layer"
_RECIPE = "recipes-core/device-agent"


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.linux.yocto", description=__doc__)
    made.add_argument("--agent", required=True, type=Path, metavar="PYZ", help="the agent as a zipapp")
    made.add_argument(
        "--overlay",
        required=True,
        type=Path,
        metavar="TAR",
        help="what python -m firmware_scripts.linux wrote",
    )
    made.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="the layer; it must not be there yet"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the layer; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        write_layer(
            arguments.output, agent=arguments.agent.read_bytes(), overlay=arguments.overlay.read_bytes()
        )
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    print(f"wrote {arguments.output}: bitbake-layers add-layer {arguments.output}", file=sys.stderr)
    print('then IMAGE_INSTALL:append = " device-agent" in conf/local.conf', file=sys.stderr)
    return 0


def write_layer(folder: Path, *, agent: bytes, overlay: bytes) -> None:
    """Write the layer; the overlay holds the claim's key, so that only its owner may enter.

    Raises:
        OSError: the folder is there already, or cannot be written.
    """
    folder.mkdir(mode=0o700)
    recipe = folder / _RECIPE
    (recipe / "files").mkdir(parents=True)
    (folder / "conf").mkdir()
    (folder / "conf/layer.conf").write_bytes((_LAYER / "layer.conf").read_bytes())
    (folder / "README").write_bytes((_LAYER / "README").read_bytes())
    (recipe / f"device-agent_{version()}.bb").write_bytes((_LAYER / "device-agent.bb").read_bytes())
    (recipe / "files/device-agent.pyz").write_bytes(agent)
    (recipe / "files/overlay.tar").write_bytes(overlay)


if __name__ == "__main__":
    sys.exit(main())
