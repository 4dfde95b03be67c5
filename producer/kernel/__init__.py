"""The kernel's side: loading and pinning the program, the ring, maps, and what an earlier run has left."""
