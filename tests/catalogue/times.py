"""Make `batchgen/catalogue/generation_times.json` from the service's pages: `python -m tests.catalogue.times`.

`PAGES` has the generation times in seconds that the page of each model names: that of its example, or a range, or a
range for each length of the clip. The output has the middle of each range, one model a line.
"""

from __future__ import annotations

import json

from batchgen.catalogue.durations import DATA

Range = tuple[float, float]
PAGES: dict[str, float | Range | dict[int, Range]] = {
    "alibaba/happyhorse-1-0": (156, 171),
    "alibaba/wan-2-6-i2v": 172,
    "alibaba/wan-2-6-image-to-video-flash": 264,
    "alibaba/wan-2-6-r2v": 260,
    "alibaba/wan-2-7-i2v": 64,
    "alibaba/wan-2-7-r2v": 522,
    "alibaba/wan-2-7-t2v": 503,
    "alibaba/wan2.1-t2v-turbo": 90,
    "alibaba/wan2.2-i2v-plus": 90,
    "alibaba/wan2.5-i2v-preview": 220,
    "alibaba/wan2.5-t2v-preview": 180,
    "bytedance/seedance-1-0-lite-i2v": 90,
    "bytedance/seedance-1-0-lite-t2v": (36, 50),
    "bytedance/seedance-1-0-pro-fast": 34,
    "bytedance/seedance-1-0-pro-i2v": 56,
    "bytedance/seedance-1-0-pro-t2v": 60,
    "bytedance/seedance-1-5-pro": 216,
    "bytedance/seedance-2-0": (139, 169),
    "bytedance/seedance-2-0-fast": 92,
    "gen3a_turbo": 25,
    "google/veo-3-1-lite-generate-preview": 128,
    "google/veo-3.0-fast": 120,
    "google/veo-3.1-i2v": (80, 100),
    "google/veo3": 120,
    "google/veo3-1-extend-video": 176,
    "google/veo3-1-fast-extend-video": 143,
    "kling-video/v1.6/pro/image-to-video": 186,
    "kling-video/v1.6/pro/text-to-video": 186,
    "kling-video/v1.6/standard/image-to-video": 122,
    "kling-video/v1.6/standard/multi-image-to-video": 127,
    "kling-video/v1.6/standard/text-to-video": 186,
    "kling-video/v1/pro/image-to-video": 204,
    "kling-video/v1/pro/text-to-video": 78,
    "kling-video/v1/standard/image-to-video": 249,
    "kling-video/v1/standard/text-to-video": 322,
    "kling-video/v2.1/pro/image-to-video": {5: (180, 240), 10: (360, 480)},
    "kling-video/v2.1/standard/image-to-video": {5: (180, 240), 10: (360, 480)},
    "klingai/avatar-pro": 530,
    "klingai/avatar-standard": 240,
    "klingai/kling-video-v1.6-standard-effects": 120,
    "klingai/v2-master-image-to-video": {5: (300, 360), 10: (660, 840)},
    "klingai/v2-master-text-to-video": {5: (300, 360), 10: (660, 840)},
    "klingai/v2.1-master-image-to-video": {5: (300, 360), 10: (660, 840)},
    "klingai/v2.1-master-text-to-video": {5: (300, 360), 10: (660, 840)},
    "klingai/video-o1-image-to-video": 79,
    "klingai/video-o1-reference-to-video": 126,
    "klingai/video-o1-video-to-video-edit": 235,
    "klingai/video-o1-video-to-video-reference": 203,
    "klingai/video-v2-6-motion-control": 356,
    "klingai/video-v2-6-pro-image-to-video": 110,
    "klingai/video-v2-6-pro-text-to-video": 152,
    "klingai/video-v3-pro-image-to-video": 401,
    "klingai/video-v3-pro-text-to-video": 381,
    "klingai/video-v3-standard-image-to-video": 235,
    "klingai/video-v3-standard-text-to-video": 431,
    "krea/krea-wan-14b/text-to-video": (11, 12),
    "krea/krea-wan-14b/video-to-video": (11, 12),
    "ltxv/ltxv-2": 70,
    "ltxv/ltxv-2-fast": 59,
    "luma/ray-2": 108,
    "luma/ray-flash-2": 60,
    "magic/image-to-video": 188,
    "magic/text-to-video": 142,
    "magic/video-to-video": 157,
    "minimax/hailuo-02": {6: (240, 300), 10: (480, 540)},
    "minimax/hailuo-2.3": 98,
    "minimax/hailuo-2.3-fast": 69,
    "openai/sora-2-i2v": 90,
    "openai/sora-2-pro-i2v": 90,
    "openai/sora-2-pro-t2v": 74,
    "openai/sora-2-t2v": 74,
    "pixverse/lip-sync": 34,
    "pixverse/v5.5/image-to-video": 50,
    "pixverse/v5.5/text-to-video": 123,
    "pixverse/v5/image-to-video": (62, 90),
    "pixverse/v5/text-to-video": (74, 77),
    "pixverse/v5/transition": (78, 90),
    "runway/act_two": 45,
    "runway/gen4_aleph": 210,
    "runway/gen4_turbo": 65,
    "sber-ai/kandinsky5-distill-t2v": 54,
    "sber-ai/kandinsky5-t2v": 148,
    "tencent/hunyuan-video-foley": 17,
    "veed/fabric-1.0": 110,
    "veo-3.1-lite-generate-001": 60,
    "veo2": (40, 50),
    "veo2/image-to-video": (40, 50),
    "video-01-live2d": 180,
    "x-ai/grok-imagine-video": 107,
    "x-ai/grok-imagine-video-1.5-preview": 64,
}


def middle(seconds: float | Range) -> float:
    return sum(seconds) / 2 if isinstance(seconds, tuple) else seconds


def text() -> str:
    """The data file: model → clip length in seconds → seconds. A time without a length is taken for that of 5 s."""
    times = {
        model: {length: middle(seconds) for length, seconds in (page if isinstance(page, dict) else {5: page}).items()}
        for model, page in sorted(PAGES.items())
    }
    return (
        "{\n"
        + ",\n".join(f"{json.dumps(model)}: {json.dumps(by_length)}" for model, by_length in times.items())
        + "\n}\n"
    )


if __name__ == "__main__":
    DATA.write_text(text(), "utf-8")
