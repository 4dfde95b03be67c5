"""How the kernel program gets into the kernel: compiled by bcc on the node, or beforehand by clang."""
