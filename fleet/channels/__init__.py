"""What a device can ask through. Each channel translates to the same request."""
