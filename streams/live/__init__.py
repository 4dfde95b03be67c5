"""What a node is doing now, summed up once a second."""
