"""The stores of the cache: what is kept, where, and what purges say about it."""
