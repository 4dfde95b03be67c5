"""Captures through the kernel program."""
