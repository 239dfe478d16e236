"""The trainers that users name after -tr: each a recipe and nothing else."""
