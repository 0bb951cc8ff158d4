"""One front for what writes images into devices: esptool, pyocd, and boards that show a UF2 drive."""
