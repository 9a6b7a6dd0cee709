"""`batchgen init`: a first manifest."""

from __future__ import annotations

from pathlib import Path

import click

from batchgen.errors import StorageError, UsageError
from batchgen.manifest import schema

FIRST = """\
# yaml-language-server: $schema=manifest.schema.json
#
# A first manifest. Everything in it can be tried for nothing, without a key:
#
#     batchgen check {name}
#     batchgen run   {name}
#
# Stop it anywhere; the same command goes on where it was.

service: simulator                  # for real videos: aimlapi, and the key in AIMLAPI_API_KEY
output: "{{{{ batch }}}}/{{{{ id }}}}.mp4"  # relative to this file

limits:                             # all optional
  in_flight: 10                     # videos generated at once
  submits_per_minute: 600           # 30 unless given; what your account may do
  # max_cost: 20.00                 # USD

defaults:                           # for every job; a job overrides them
  model: klingai/v2.1-master-text-to-video
  duration: 5                       # seconds
  aspect_ratio: "16:9"

jobs:
  - id: harbour                     # the job's name from run to run: keep it
    prompt: Fishing boats leave the harbour at sunrise, gulls above them. Slow pan to the right.

  - id: "{{{{ city }}}}-{{{{ weather }}}}"  # one job for each combination: four
    matrix:
      city: [lisbon, kyoto]
      weather: [rain, snow]
    prompt: "A street in {{{{ city }}}}, {{{{ weather }}}} falling on the lanterns, handheld camera."
    duration: 10

  # Videos from your own images: put them into a folder beside this file, and take the signs # away.
  # - id: "{{{{ image.stem }}}}"
  #   matrix:
  #     image: {{glob: "images/*.jpg"}}
  #   model: kling-video/v2.1/standard/image-to-video
  #   prompt: The camera moves slowly closer.
  #   image_url: "{{{{ image }}}}"
  #   aspect_ratio: ~               # this model does not take it: null drops the default

  # A job for each line of a table whose columns are sku, title and photo:
  # - id: "{{{{ sku }}}}"
  #   rows: products.csv
  #   model: kling-video/v2.1/standard/image-to-video
  #   prompt: "{{{{ title }}}} turns slowly on a wooden table."
  #   image_url: "{{{{ photo }}}}"
  #   aspect_ratio: ~
"""


@click.command(name="init")
@click.argument("path", type=click.Path(path_type=Path), default=Path("manifest.yaml"))
def command(path: Path) -> None:
    """Write a first manifest, with comments, to PATH (manifest.yaml), and beside it the schema for your editor.

    It runs as it stands, on the built-in simulator. Nothing is overwritten.
    """
    path = path / "manifest.yaml" if path.is_dir() else path
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{path}: a manifest's name ends in .yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(FIRST.format(name=path.name))
        beside = path.with_name("manifest.schema.json")
        if not beside.exists():
            beside.write_text(schema.text(), "utf-8")
    except FileExistsError:
        raise UsageError(f"{path}: is there already, and was left as it is") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    click.echo(f"Next: batchgen check {path}, and then batchgen run {path}")
