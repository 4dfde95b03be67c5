"""What addresses are called: reverse DNS, asked beside all else."""
