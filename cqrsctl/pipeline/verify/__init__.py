"""Comparing items with their rows: verification of all, repairing, and waiting for one."""
