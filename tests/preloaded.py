"""What the server of `forks.py` imports before it forks: the modules of batchgen, and whatever a run imports late."""

from __future__ import annotations

import encodings.idna  # noqa: F401
import gc

import anyio
import av.subtitles.stream  # noqa: F401
import httpcore2  # noqa: F401
import sqlalchemy.dialects.sqlite  # noqa: F401 - else imported by the first engine, and not every fork may read it
import uvicorn.lifespan.off  # noqa: F401
from PIL import AvifImagePlugin, Image, ImageOps, WebPImagePlugin  # noqa: F401

import batchgen.services.aimlapi.service  # noqa: F401
from batchgen.cli import COMMANDS, load
from batchgen.files import measures, video

for name in COMMANDS:
    load(name)

anyio.run(anyio.sleep, 0)
Image.preinit()
video.sampling()
measures.sample_type()
gc.freeze()  # a fork that collects garbage would copy every page
