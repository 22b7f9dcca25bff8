"""What a config needs of machines that need not be there: bytes, FLOPs, and a step's least time."""
