"""The ELF format, as bytes: headers, notes, and the names that the field has given their numbers.

Beneath backends and facts alike, because both decode notes; nothing here opens a file."""
