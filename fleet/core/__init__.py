"""Pure decisions of the server: bytes and times in, values out, no I/O."""
