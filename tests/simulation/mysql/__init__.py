"""MySQL's statements on SQLite: as much of them as the read model sends. Whatever else is refused loudly."""
