"""The published algorithms, one file each: torch alone, no Ray, no data sets, no files."""
