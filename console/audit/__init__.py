"""The ledger's check: what the kernel counted, what was consumed, what is stored."""
