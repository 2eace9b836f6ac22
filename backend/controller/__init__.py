"""Timeline's endpoints, one blueprint for each of its parts."""
