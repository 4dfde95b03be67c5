"""Octets to what they say: DNS, ClientHellos, QUIC's first packets, HTTP requests. Nothing here remembers anything."""
