"""The command line: one module for each subcommand, a table of them in main.py."""
