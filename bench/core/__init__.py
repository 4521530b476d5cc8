"""The kernel: types, privacy and protocols; imports nothing else of ours."""
