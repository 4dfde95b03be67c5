"""`ayaflow kafka`: a real single-node Kafka."""
