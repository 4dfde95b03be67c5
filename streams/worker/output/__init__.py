"""What becomes of a window: it is stored and published, or refused."""
