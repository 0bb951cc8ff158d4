"""The wire contract of device and server: messages, framing, topics, identity, problems.

It belongs to the device, the party that is hardest to update. It does no I/O, and needs the
standard library only.
"""
