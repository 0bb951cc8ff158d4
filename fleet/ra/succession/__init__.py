"""How one CA follows another: a rollover step by step, a CA given up, lost or stolen."""
