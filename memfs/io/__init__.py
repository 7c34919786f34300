"""Bytes in, no formats: files and address spaces made of their pieces."""
