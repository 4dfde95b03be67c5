"""Which interfaces there are, which are watched, and that they stay so."""
