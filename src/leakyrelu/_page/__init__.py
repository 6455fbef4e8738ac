"""The toolkit for offline HTML pages, which the report and the study share."""

from leakyrelu._page.page import Chart, Table, check_png, write_page, write_png

__all__ = ["Chart", "Table", "check_png", "write_page", "write_png"]
