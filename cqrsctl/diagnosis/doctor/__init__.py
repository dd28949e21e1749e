"""Looking at the live pipeline for what will hurt: one module for each part, one function for each check."""
