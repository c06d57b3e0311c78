"""Memory that is kept between batches of images, and given back afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRIED = """
import resource, sys, psutil, torch
from types import SimpleNamespace
from adapterhub_lite.base.heap import kept_heap

base = SimpleNamespace(map=SimpleNamespace(modality=sys.argv[1]), device=torch.device("cpu"))
process = psutil.Process()
torch.ones(16 << 20).sum()

def pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

outside = pages(4)
start = process.memory_info().rss
with kept_heap(base):
    pages(1)
    with kept_heap(base):
        pages(1)
    inside = pages(4)
print(outside, inside, pages(4), process.memory_info().rss - start)
"""


def measured(modality: str, **variables: str) -> list[int]:
    command = [sys.executable, "-W", "error", "-c", TRIED, modality]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **variables})
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's switches")
def test_images_get_no_new_pages_for_each_batch_and_give_them_back():
    outside, inside, after, left = measured("image")
    size = (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert outside >= 4 * size, "the measure sees new pages"
    assert inside < size / 4
    assert after >= 4 * size, "as it was"
    assert left < 32 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's switches")
@pytest.mark.parametrize(("modality", "variables"), [("text", {}), ("image", {"MALLOC_TRIM_THRESHOLD_": "131072"})])
def test_others_and_what_the_user_set_up_are_left_alone(modality, variables):
    outside, inside, after, _ = measured(modality, **variables)
    assert inside == pytest.approx(outside, rel=0.1)
    assert after == pytest.approx(outside, rel=0.1)
