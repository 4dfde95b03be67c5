"""HTTP routes, a module a concern; what they ask is in the other packages."""
