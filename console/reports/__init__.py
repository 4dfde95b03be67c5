"""Reports over the stored flows, and how complete a range is."""
