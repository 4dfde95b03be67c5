"""From the ring of copies to names: on flows, and in messages of their own."""
