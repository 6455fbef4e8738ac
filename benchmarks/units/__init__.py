"""Whether the units of networks that others wrote are read along the right axis, beside an oracle of its own."""
