"""Verifiers of what devices show of themselves: one kind of proof a module, one interface, `proof`."""
