"""Writes the reference of notifications: each event, with its CloudEvents type, out of their table."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.core.matters import MATTERS, Course, Matter, event_type
from fleet.files import PUBLIC_MODE, write_file

_HEAD = """# Notifications

Written by `python -m fleet.ra.telling.reference docs/reference/notifications.md`. How to set them up:
[tell people](../how-to/tell-people.md).

| event | CloudEvents `type` | told when | severity | how it goes on |
|---|---|---|---|---|
"""
_COURSES: Mapping[Course, str] = {
    Course.ENDING: "again at each threshold, critical at the last one; then an all-clear",
    Course.LASTING: "again when there is more of it; then an all-clear",
    Course.PASSING: "once for each, again after a calm day; no all-clear",
}
_TAIL = """
A message is a CloudEvent 1.0 in structured JSON (`application/cloudevents+json`), the same for webhooks,
MQTT and files:

| member | |
|---|---|
| `specversion`, `datacontenttype` | `1.0`, `application/json` |
| `id` | 32 hex digits, the same at every attempt and for every receiver: what came twice has the same |
| `source` | `urn:fleet:<fleet>` |
| `type` | as above; `fleet.v1.test` for `fleet notice test` |
| `time` | when it was made, RFC 3339 in UTC |
| `subject` | the one subject, where it is about one |
| `data.number` | by which it is acknowledged: `fleet notice ack` |
| `data.rule`, `data.title` | the rule's name; one line for people |
| `data.severity` | `info`, `warning` or `critical` |
| `data.owner` | whose devices these are, or null |
| `data.count`, `data.items` | how many subjects, and the first hundred |
| of an item | `change` (`arises`, `worsens`, `clears`), `subject`, `text`, `severity`, `at` |

| channel | where, and how it is known again |
|---|---|
| mail | `Message-ID: <id@sender's domain>`, `Fleet-Notification: id`, `Auto-Submitted: auto-generated` |
| webhook | `Fleet-Signature: t=<seconds>,v1=<hex>`: HMAC-SHA-256 over `<seconds>.<body>` |
| MQTT | `fleet/v1/notifications/<event>` at the fleet's broker: QoS 1, not retained; tests on `.../test` |
| file | one line each, mode 0600, synced to the disk; an id stands in it once |
"""


def text() -> str:
    """Return the page."""
    return _HEAD + "".join(_rows()) + _TAIL


def _rows() -> Iterator[str]:
    for matter in Matter:
        about = MATTERS[matter]
        yield (
            f"| `{matter}` | `{event_type(matter)}` | {about.text} | {about.severity.word} |"
            f" {_COURSES[about.course]} |\n"
        )


if __name__ == "__main__":
    write_file(Path(sys.argv[1]), text().encode(), mode=PUBLIC_MODE)
