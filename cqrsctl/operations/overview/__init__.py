"""How far behind the read model is, and how each part of the pipeline does."""
