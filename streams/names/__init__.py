"""The names topic to the tables names and names_ledger, exactly once, beside the windows of flows."""
