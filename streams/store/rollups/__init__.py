"""What rollups lack of flows, and how they are given it."""
