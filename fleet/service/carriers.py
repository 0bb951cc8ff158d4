"""Makes the channels to people, as `[notice.channels]` of the configuration names them.

What a channel needs is read when it sends, so that a missing password keeps no server from starting.
"""

from collections.abc import Mapping
from pathlib import Path

from fleet.carriers.file import FileCarrier
from fleet.carriers.mail import MailCarrier
from fleet.carriers.topic import TopicCarrier
from fleet.carriers.webhook import HookCarrier
from fleet.channel_sections import ChannelConfig, FileConfig, HookConfig, MailConfig, TopicConfig
from fleet.ports import Clock
from fleet.ra.carrier import Carrier
from fleet.ra.post import Post
from fleet.service.parts import Parts


def carriers_of(parts: Parts, publish: Post) -> Mapping[str, Carrier]:
    """Return the channels by their names; `publish` reaches our own broker."""
    root = parts.home.root
    return {
        each.name: _carrier(each, root=root, clock=parts.clock, publish=publish)
        for each in parts.config.notice.channels
    }


def _carrier(settings: ChannelConfig, *, root: Path, clock: Clock, publish: Post) -> Carrier:
    match settings:
        case MailConfig():
            return MailCarrier(settings, root=root)
        case HookConfig():
            return HookCarrier(settings, root=root, clock=clock)
        case TopicConfig():
            return TopicCarrier(settings, publish=publish)
        case FileConfig():
            return FileCarrier(settings, root=root)
