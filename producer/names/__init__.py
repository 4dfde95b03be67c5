"""What traffic is called: DNS, TLS, QUIC and HTTP names out of copied payload, and the join of flows to them."""
