"""What the fleet remembers. It never decides."""
