"""`--rehearse`: a command says what it would do, by the judgement of the act itself, and changes nothing."""

import click

from fleet.cli.output import Form, say

option = click.option("--rehearse", is_flag=True, help="Say what would happen, and change nothing.")


def say_rehearsed(form: Form) -> None:
    """Say that what was shown has not happened."""
    if form is Form.TABLE:
        say("this was a rehearsal: nothing was changed")
