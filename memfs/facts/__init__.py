"""What an Image means: functions from an Image to records, each computed once, when it is looked at.

Facts see `Space`s and a `ProcessSource` and nothing else, so that a process in a core, a live one, and one inside
the image of a kernel are the same to them. Values only: text is made in tree/render.py."""
