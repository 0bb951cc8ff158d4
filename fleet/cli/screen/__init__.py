"""What people see of a station at work: its lanes, in their language, drawn for their terminal."""
