"""The factory station: sessions with devices on its ports, and the ledger of what it made."""
