"""The line as people see it: ports and their lanes, visits of units, scanners, test jigs."""
