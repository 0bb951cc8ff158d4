"""The conformance kit: plays station and server against a device under test, and tells what it does wrong."""
