"""Bricks shared by the methods."""
