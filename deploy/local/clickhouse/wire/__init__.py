"""What requests and answers look like on the wire: how they are packed, and the format Native."""
