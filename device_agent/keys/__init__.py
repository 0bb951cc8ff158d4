"""Where the device's private keys live, and how they sign."""
