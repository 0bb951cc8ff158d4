"""What outlives the server: backups, restores, drills, the trail kept elsewhere, and what time does."""
