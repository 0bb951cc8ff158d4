"""The tables of `docs/explanation/protocol.md`, rendered from the cores that run.

`python -m tests.protocol_tables` writes them into the page; a test tells when that was forgotten.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from device_agent.core import lifecycle as device
from fleet.core import enrollment, rules
from fleet.model import CertificateState

PAGE = Path(__file__).parents[1] / "docs/explanation/protocol.md"

Rule = Callable[..., object]


def _name(rule: Rule) -> str:
    return rule.__name__.replace("_", " ")


def _cell(rule: Rule) -> str:
    return "" if rule in {device.keep, rules.note} else _name(rule)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _legend(found: Iterable[Rule]) -> str:
    told = {_name(rule): (rule.__doc__ or "").splitlines()[0] for rule in found if _cell(rule)}
    return _table(["rule", "what it does"], sorted(told.items()))


def _device_rules() -> dict[str, dict[str, Rule]]:
    table = device.TABLE
    return {
        one.name.replace("_", " "): {state.value: rule for state, rule in getattr(table, one.name).items()}
        for one in dataclasses.fields(table)
    }


def device_table() -> str:
    found = _device_rules()
    rows = ([event, *(_cell(rule) for rule in by_state.values())] for event, by_state in found.items())
    return _table(["event", *(state.value for state in device.State)], rows)


def device_legend() -> str:
    return _legend(rule for by_state in _device_rules().values() for rule in by_state.values())


def _server_rows(table: rules.Rules) -> dict[str, tuple[Rule, ...]]:
    return {state.value: (*table.asked[state], *table.told[state]) for state in CertificateState}


def _server_table(table: rules.Rules) -> str:
    head = [name.replace("_", " ") for name in (*rules.Asked._fields, *rules.Told._fields)]
    rows = ([state, *(_cell(rule) for rule in row)] for state, row in _server_rows(table).items())
    return _table(["certificate", *head], rows)


def agent_table() -> str:
    return _server_table(rules.AGENT)


def plain_table() -> str:
    return _server_table(rules.PLAIN)


def code_table() -> str:
    rows = ([state.value, _name(enrollment.AGAIN[state])] for state in CertificateState)
    return _table(["certificate of this code and key", "enroll"], rows)


def server_legend() -> str:
    """The two tables use one name for one thing, but for `renew current`, told apart by its table."""
    agents = [rule for row in _server_rows(rules.AGENT).values() for rule in row]
    plains = [rule for row in _server_rows(rules.PLAIN).values() for rule in row]
    return _legend([*agents, *plains, *enrollment.AGAIN.values()])


TABLES: dict[str, Callable[[], str]] = {
    "device": device_table,
    "device rules": device_legend,
    "agent": agent_table,
    "plain": plain_table,
    "code": code_table,
    "server rules": server_legend,
}


def filled(page: str) -> str:
    """Return the page with each table as the cores have it."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"the page must have one place for the table {name}")
        block = f"{begin}\n{table()}\n{end}"
        page = pattern.sub(lambda _: block, page)  # noqa: B023  # used before the loop goes on
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
