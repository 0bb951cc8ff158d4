"""What a computer on the line needs beside the program: udev rules, a systemd unit, label templates."""
