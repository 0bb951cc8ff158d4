"""What a station is: its identity, and how it lasts."""
