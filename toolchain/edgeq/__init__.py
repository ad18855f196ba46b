"""edgeq takes a PyTorch model to an ARM board and proves what it does there."""
