"""The tables of `ayaflow rewindow`: jobs, windows that are made again, and how they take the place of others."""
