"""What streams asks of Kafka beside reading and sending. Blocking; used from threads."""
