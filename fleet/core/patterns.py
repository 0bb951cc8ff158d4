"""Which patterns of topics operators may write, in a policy or as the scope of a backend.

The fleet's own topics are in none of them.
"""

import re

from fleet.core.access import LONGEST_PATTERN, RESERVED

_LITERAL = re.compile(r"[A-Za-z0-9_.:@=,;$-]+", re.ASCII)


def pattern_fault(pattern: str) -> str | None:
    """Return why a text is no pattern of topics that a policy or a scope may hold, or None."""
    levels = pattern.split("/")
    if not pattern or len(pattern) > LONGEST_PATTERN:
        return f"a pattern has 1 to {LONGEST_PATTERN} characters"
    if levels[0] == RESERVED or levels[0].startswith("$"):
        return f"topics below {levels[0]}/ are the fleet's own: no rule gives or takes them"
    if levels[0] in {"+", "#"}:
        return f"a pattern must name its first level: {levels[0]} would reach the fleet's own topics"
    for position, level in enumerate(levels):
        last = position == len(levels) - 1
        if not (level == "+" or (level == "#" and last) or _is_level(level)):
            return f"level {position + 1} is no name, no {{variable}}, no + and no last #"
    return None


def _is_level(level: str) -> bool:
    variable = level.startswith("{") and level.endswith("}") and level.count("{") == level.count("}") == 1
    return variable or bool(_LITERAL.fullmatch(level))


def reaches_others(pattern: str) -> bool:
    """Say whether a pattern reaches topics of devices that it does not name, `devices/<domain>/<id>/...`."""
    first, *rest = pattern.split("/")
    if first != "devices" or not rest:
        return False
    domain, device_id = rest[0], rest[1] if len(rest) > 1 else ""
    if "#" in {domain, device_id} or device_id == "+":
        return True
    names_itself = (domain, device_id) == ("{domain}", "{id}")
    spelled_out = not {"+", "{"} & {domain[:1], device_id[:1]}
    # A name of its own in another domain is another device; another fact than its id is not its name.
    return device_id != "" and not names_itself and not spelled_out
