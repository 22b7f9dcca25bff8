"""Sources of records, views of them, and the batches that training reads."""
