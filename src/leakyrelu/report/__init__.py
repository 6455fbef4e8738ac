"""A report as a terminal table, as JSON and as one HTML page."""
