"""What gets the agent, the claim or the key onto real hardware. Each script is a command with `--help`."""
