"""Who we are to Kafka and others: secrets, certificates, tokens."""
