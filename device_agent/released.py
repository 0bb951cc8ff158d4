"""When this agent was made: no device that runs it lives earlier.

A build writes the line anew, see `firmware_scripts.packages.released`. What stands here is of a tree that no
build has dated: the year in which the agent was begun.
"""

from datetime import UTC, datetime

RELEASED = datetime.fromtimestamp(1767225600, UTC)
