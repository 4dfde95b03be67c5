"""The command line of the whole system; nobody imports it."""
