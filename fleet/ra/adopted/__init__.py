"""Fleets with certificates of another CA: taken in by a list, and moved to ours."""
