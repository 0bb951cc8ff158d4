"""A device's story as JSON: each entry of the trail about it in words, and who connected with its name."""

from datetime import datetime

from fleet.core.story import decision
from fleet.ra.people.explain import Story
from fleet.store.audit import StoredEntry
from fleet.web.api.audit import entry_members
from fleet.web.api.connections import contact_members
from fleet.web.api.routes import Members
from fleet.web.api.waiting import waiting_members


def story_members(story: Story, *, now: datetime) -> Members:
    """Return a story."""
    return {
        "domain": story.identity.domain,
        "device_id": story.identity.device_id,
        "standing": None if story.view is None else story.view.summary.standing.value,
        "verdict": story.verdict,
        "advice": story.advice or None,
        "story": [_told(entry) for entry in story.entries],
        "connections": [contact_members(seen) for seen in story.contacts],
        "waiting": [waiting_members(request, now=now) for request in story.waiting],
    }


def _told(stored: StoredEntry) -> Members:
    """Return an entry with what it tells of the device: step, outcome, rule, input, and what to do now."""
    told = decision(stored.entry)
    return {
        **entry_members(stored),
        "step": told.step,
        "came": told.came.value,
        "rule": told.rule,
        "saw": told.saw,
        "advice": told.advice or None,
    }
