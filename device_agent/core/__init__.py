"""Pure decisions of the device: it takes bytes and times, and returns values."""
