"""Contrastive pre-training in JAX."""
