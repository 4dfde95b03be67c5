"""What goes on now, from the live topic."""
