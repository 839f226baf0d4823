"""One frozen readiness document, and its renderings."""
