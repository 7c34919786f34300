"""What the files are, whoever shows them: names, sizes, readers. No protocol, no system calls on the mount."""
