"""`ayaflow up`: starts, watches, shows and stops every part."""
