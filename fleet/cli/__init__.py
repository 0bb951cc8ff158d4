"""`fleet NOUN VERB`, for operators: one module a noun, loaded when it is called.

It talks to the server over its API and never touches the store itself.
"""

import sys


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        from fleet.cli.app import run  # noqa: PLC0415 - the base install has the agent alone
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "fleet":
            raise
        sys.stderr.write(f"error: the package {error.name} is missing\n")
        sys.stderr.write('hint: pipx install "fleet-provisioning[server]"\n')
        raise SystemExit(1) from error
    raise SystemExit(run())
