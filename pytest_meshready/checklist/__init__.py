"""The checklist: its 93 lines as data, and a module of tests for each section."""
