"""From numbers to what people read: the page, its tables and figures, the terminal's progress."""
