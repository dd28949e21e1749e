"""Comparing items with their rows: verification of all, mending, and waiting for one."""
