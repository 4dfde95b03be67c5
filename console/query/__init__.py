"""Filters and questions about flows: text to a tree, to SQL, to a test of one flow."""
