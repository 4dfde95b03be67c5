"""What streams asks of Kafka beside reading, and what it sends. Blocking; used from threads."""
