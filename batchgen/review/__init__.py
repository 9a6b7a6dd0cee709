"""The review page: a batch as a page on which a person judges its clips, served or as one file."""
