"""What operators know about their devices, how they find them, and where hardware goes that moves on."""
