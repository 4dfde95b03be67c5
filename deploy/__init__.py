"""How the parts get onto machines."""
