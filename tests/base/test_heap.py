"""Memory that is kept between batches of images, and given back afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's switches")

TRIED = """
import resource, sys, psutil, torch
from types import SimpleNamespace
from adapterhub_lite.base.heap import kept_heap

base = SimpleNamespace(map=SimpleNamespace(modality=sys.argv[1]), device=torch.device("cpu"))
size = 64 << 20
block = lambda: torch.ones(size // 4)
resident = psutil.Process().memory_info

def pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / size

block().sum()
outside, start = pages(20), resident().rss
with kept_heap(base):
    several = [block() for _ in range(4)]
    del several
    with kept_heap(base):
        block()
    inside, kept = pages(20), resident().rss
print(outside, inside, (kept - start) / size, (resident().rss - start) / size)
"""


def measured(modality: str, **variables: str) -> list[float]:
    """Blocks of new pages for twenty blocks, outside and inside; blocks that stay resident, inside and after it."""
    command = [sys.executable, "-W", "error", "-c", TRIED, modality]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **variables})
    return [float(number) for number in done.stdout.split()]


def test_images_get_no_new_pages_for_each_batch_and_give_them_back():
    outside, inside, kept, left = measured("image")
    assert outside >= 20, "the measure sees new pages"
    assert inside < 8, "something small that comes to lie in a gap makes it too narrow, now and then"
    assert kept > 3
    assert left < 0.5


@pytest.mark.parametrize(("modality", "variables"), [("text", {}), ("image", {"MALLOC_TRIM_THRESHOLD_": "131072"})])
def test_others_and_what_the_user_set_up_are_left_alone(modality, variables):
    outside, inside, kept, left = measured(modality, **variables)
    assert outside >= 20
    assert inside >= 20
    assert kept < 0.5
    assert left < 0.5
