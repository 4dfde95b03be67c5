"""All that is known of one Kafka partition: order, losses, watermark, ledger, recovery."""
