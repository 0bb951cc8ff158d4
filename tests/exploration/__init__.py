"""Explores the two cores of a certificate's life, exhaustively, over a network that does its worst."""
