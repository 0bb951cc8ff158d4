"""Puts the agent on a Linux image: an overlay archive with its units, its claim and its trust anchors."""
