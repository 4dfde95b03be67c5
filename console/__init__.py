"""What people look at: the command line, reading commands, the audit and the HTTP service."""
