"""Typed readers of what watches a mesh: Prometheus, tracing backends. They know nothing of pytest."""
