"""Offline-RL agents, one file each; `_parts` holds what they share."""
