"""One node: packets out of the kernel into Kafka."""
