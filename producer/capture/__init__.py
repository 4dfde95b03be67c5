"""From the ring to batches: epochs, columns, the flow table's entries."""
