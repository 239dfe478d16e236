"""What was measured, as tables, summaries and flags, for files and for a terminal."""
