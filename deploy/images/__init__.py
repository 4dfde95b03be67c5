"""Container images: what builds them, and what is put into them."""
