"""Rebuilding the read model: from the beginning to the cutover, with the snapshot and the projector beside it."""
