"""Tests of pytest-meshready."""
