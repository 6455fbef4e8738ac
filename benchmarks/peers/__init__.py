"""Dead units planted in networks, and what each package that looks for them finds."""
