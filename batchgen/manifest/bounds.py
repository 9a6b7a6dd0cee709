"""How large a manifest and what it names may be.

Every length is judged before the text is parsed, compiled or multiplied, because the later steps take time and memory
in proportion to it. A file beyond a bound is a mistake or an attack; no real batch comes near it.
"""

MANIFEST_BYTES = 50_000_000
"""One manifest file. A million short jobs fit, and an image or two as data URIs."""
ROWS_BYTES = 200_000_000
"""One file of rows, which stays in memory: a million rows with a long prompt each."""
LINE_CHARS = 20_000_000
"""One row. An image of 14 MB as a data URI fits; a file without line ends does not."""
COLUMNS = 1_000
"""Names in one row: spreadsheets have a few dozen."""
AXES = 100
"""Names in one matrix: a batch of the greatest size has twenty of two values."""
MAPPING_KEYS = 10_000
"""Keys of one mapping. The largest documented request has some 60."""
ENTRY_VALUES = 50_000
"""Values in one job or header key as it is written: a matrix may list so many files."""
REQUEST_VALUES = 5_000
"""Values in one request, aliases included: the largest documented one, with its motion masks, has some 1,000."""
REQUESTS_VALUES = 2_000_000
"""Values in all requests together, beyond `TYPICAL_VALUES` for each job."""
TYPICAL_VALUES = 50
"""Values in one request of a batch of the greatest size."""
REQUESTS_CHARS = 100_000_000
"""Characters in all requests together, beyond `TYPICAL_CHARS` for each job: few jobs may be large, or many small."""
TYPICAL_CHARS = 1_000
"""Characters in one request of a batch of the greatest size."""
TEMPLATE_CHARS = 50_000
"""One template. The longest prompt that a service takes has 10,000 characters."""
FILLED_CHARS = 10_000_000
"""The text that a template may become, estimated before it is filled in."""
LINK_CHARS = 8_000
"""A link: signed addresses have up to 2,000 characters, and few servers take more than 8,000."""
INCLUDES = 1_000
"""Manifests of one batch."""
INCLUDE_DEPTH = 50
"""Manifests that include one another in a row: reading them recurses."""
GLOB_ENTRIES = 200_000
"""Files and folders that one glob may look at: beyond it the search takes seconds."""
GLOB_DEPTH = 64
"""Folders inside one another that `**` descends into."""
MESSAGE_CHARS = 500
"""A message or hint. Values in it are shortened before; this holds for those that nobody thought of."""
PROBLEMS = 500
"""Different problems of one file: then its reading stops."""
REPORTS = 20_000
"""Problems of one file, equal ones of other rows counted: then its reading stops."""
