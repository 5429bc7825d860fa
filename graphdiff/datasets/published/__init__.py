"""Published datasets that need more than a layout and a card, and the synthetic one."""
