"""The asynchronous shell: messages in, windows, losses and live statistics out."""
