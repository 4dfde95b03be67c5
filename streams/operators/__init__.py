"""Operators: what looks at each stored window and finds something in it, ours and users' own."""
