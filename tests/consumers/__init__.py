"""The engines that people read the topics with, each as its page in docs/consumers says, held to `ayaflow audit`.

`make test-consumers` runs all, or ENGINES="go rust"; `make test` those that need nothing installed. How to add one:
tests/consumers/engines.py.
"""
