"""Devices of other people for tests: bytes of the line go in, bytes come out, by the real grammar."""
