"""From packets to bidirectional flows of a window."""
