"""From Kafka to stored windows."""
