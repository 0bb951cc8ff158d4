"""What a unit is given: which id, which certificate, and the answers to what a session asks."""
