"""What a station tells besides its server: events, results, labels, and the book of what is due."""
