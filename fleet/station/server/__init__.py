"""A station and its server: certificates asked for, the journal handed in, another's units fetched."""
