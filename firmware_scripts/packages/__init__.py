"""Builds the agent's wheel, zipapp and Debian package; the same input gives the same bytes."""
