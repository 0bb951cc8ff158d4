"""One existing device protocol a module."""
