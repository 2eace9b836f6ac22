"""Processes: the master, its workers, and the applications it supervises."""
