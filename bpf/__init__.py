"""The kernel program, one concern a header: what it hands over, frames, tunnels, hashes, sums by flow, replay."""
