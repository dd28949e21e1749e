"""Making the read model anew: from the beginning to the cutover, with the snapshot and the projector beside it."""
