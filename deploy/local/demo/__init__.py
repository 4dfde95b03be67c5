"""`ayaflow demo`: made-up traffic in network namespaces of its own, seen by the real system; nothing of it stays."""
