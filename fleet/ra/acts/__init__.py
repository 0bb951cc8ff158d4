"""What one operator must not do alone: counted in one place, proposed to a second one, and done once."""
