"""People are told what they have to know: looked for, gathered, delivered, acknowledged."""
