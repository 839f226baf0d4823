"""Kubernetes: what is read, how, and what is kept of it."""
