"""pytest-meshready."""
