"""One existing device protocol a module; each serves one unit on one line."""
