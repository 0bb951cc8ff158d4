"""`fleet NOUN VERB`, for operators: one module a noun, loaded when it is called.

It talks to the server over its API and never touches the store itself.
"""


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    from fleet.cli.app import run  # noqa: PLC0415 - the command tree is not needed to import the package

    raise SystemExit(run())
