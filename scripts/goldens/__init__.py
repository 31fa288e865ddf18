"""Parts of golden.py."""
