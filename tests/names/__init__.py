"""Names against other people's captures, and parsers against everything: both too long for make test."""
