"""What `contrastive-jax bench` measures: our own programs, this machine's matmul, and other libraries."""
