"""What every component needs: settings, errors, logs, metrics. Keep this list closed."""
