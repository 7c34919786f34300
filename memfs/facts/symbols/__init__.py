"""Kernel symbols: columns of names and addresses, what they are read from, and addresses in text given names."""
