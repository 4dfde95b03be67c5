"""Who may do what: a loader that ends, a helper that attaches, a producer that may do nothing."""
