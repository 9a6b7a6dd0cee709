"""A corpus of clips, sound ones and defects, by which the measures of delivered clips are judged."""
