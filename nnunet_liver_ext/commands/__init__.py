"""One module per command: its arguments and its help text. What it does is imported when it
runs."""
