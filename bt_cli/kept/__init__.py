"""Columns of a source that are carried along into the table of its images: `--keep url,key`."""
