"""Attaching the kernel program to interfaces, by what the kernel has for it."""
