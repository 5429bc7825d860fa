"""Titles and categories of synthetic items, made of the names of their styles."""

from __future__ import annotations

from collections import Counter

import numpy as np

#: One name per style of the image.
LOOKS = (
    "Golden", "Crimson", "Silver", "Azure", "Emerald", "Amber", "Violet", "Ivory",
    "Scarlet", "Copper", "Indigo", "Pearl", "Jade", "Coral", "Bronze", "Cobalt",
    "Rosy", "Olive", "Snowy", "Misty", "Sunlit", "Moonlit", "Dusky", "Shady",
    "Pale", "Bright", "Dark", "Striped", "Dotted", "Glassy", "Velvet", "Rusty",
)  # fmt: skip
#: Eight categories with the names of four styles of the text each.
SUBJECTS = {
    "Travel": ("Harbour", "Mountain", "Desert", "Island"),
    "Animals": ("Falcon", "Dolphin", "Leopard", "Horse"),
    "Food": ("Bakery", "Vineyard", "Kitchen", "Market"),
    "Sport": ("Marathon", "Regatta", "Climb", "Stadium"),
    "Home": ("Garden", "Window", "Workshop", "Library"),
    "City": ("Bridge", "Station", "Rooftop", "Avenue"),
    "Nature": ("Forest", "River", "Meadow", "Glacier"),
    "Science": ("Comet", "Engine", "Atlas", "Signal"),
}
#: One name per style of the audio.
SOUNDS = (
    "Waltz", "Blues", "Anthem", "Ballad", "Tango", "Fugue", "March", "Lullaby",
    "Samba", "Sonata", "Swing", "Hymn", "Polka", "Nocturne", "Overture", "Serenade",
    "Jazz", "Chorus", "Rumba", "Prelude", "Reggae", "Etude", "Bolero", "Carol",
    "Disco", "Folk", "Opera", "Techno", "Soul", "Salsa", "Gospel", "Rondo",
)  # fmt: skip


def describe_styles(style: np.ndarray) -> dict[str, list[str]]:
    """Return titles and categories of items.

    Items of the same styles are numbered, so that titles differ.

    Args:
        style: Styles of audio, image and text, integer ``[I, 3]`` from 0 to 31.

    Returns:
        ``title`` and ``category``, I texts each.
    """
    subjects = [(subject, name) for name, group in SUBJECTS.items() for subject in group]
    seen: Counter[tuple[int, ...]] = Counter()
    titles, categories = [], []
    for audio, image, text in style.tolist():
        subject, category = subjects[text]
        seen[audio, image, text] += 1
        number = seen[audio, image, text]
        title = f"{LOOKS[image]} {subject} {SOUNDS[audio]}"
        titles.append(title if number == 1 else f"{title} {number}")
        categories.append(category)
    return {"title": titles, "category": categories}
