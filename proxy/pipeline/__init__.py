"""The way of one request, a file for each step; the import graph is the flow chart."""
