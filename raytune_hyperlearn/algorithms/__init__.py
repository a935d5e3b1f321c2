"""The published algorithms. A paper's files share its name; each says its mathematics at the top. Torch alone."""
