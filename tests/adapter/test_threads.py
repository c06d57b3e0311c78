"""Adapters used from several threads: the answers of one thread, and bases that do not wait for each other."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.loading import Base
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts

THREADS = 16
TEXTS = ["good one two", "three bad", "four five good six", "bad"]
PROMPT = "one two"
CONFIG = TrainConfig(steps=8, batch_size=4, learning_rate=0.05)


@pytest.fixture(scope="module")
def base() -> Base:
    return tiny_base("decoder")


@pytest.fixture(scope="module")
def adapters(base: Base, engine: Engine) -> list[Adapter]:
    """Two classifiers and a language model on one base, far enough apart that a mix-up shows."""
    rows = texts()
    flipped = dataclasses.replace(rows, targets=tuple(1 - target for target in rows.targets or ()))
    return [engine.train(base, data, settings={"rank": 4}, config=CONFIG) for data in (rows, flipped, completions())]


def answer(adapter: Adapter) -> object:
    """What an adapter says, exactly."""
    if adapter.attachment.task.generates:
        return adapter.generate(PROMPT, max_new_tokens=8)
    return [tuple(output.probabilities.items()) for output in adapter.predict(TEXTS)]


def in_threads(work: Callable[[int], None]) -> None:
    """Run `work` in all threads, which begin together; raises what one of them raised."""
    together = threading.Barrier(THREADS)

    def begin(number: int) -> None:
        together.wait(timeout=60)
        work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(begin, number) for number in range(THREADS)]:
            done.result()


def test_sixteen_threads_get_the_answers_of_one(base, adapters, engine, bits, tmp_path):
    expected = [answer(adapter) for adapter in adapters]
    assert len({str(each) for each in expected}) == 3
    paths = [tmp_path / str(number) for number in range(3)]
    for adapter, path in zip(adapters, paths, strict=True):
        adapter.save(path)
    base.activate(None)
    before = bits(base.model)
    wrong = []

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(12):
            which = chance.randrange(3)
            match chance.choice(["answer", "answer", "use", "disabled", "load and detach", "save"]):
                case "answer":
                    got = answer(adapters[which])
                case "use":
                    adapters[which].use()
                    continue
                case "disabled":
                    with adapters[which].disabled() as bare:
                        if bare.active is not None:
                            wrong.append((which, "an adapter on the bare base"))
                    continue
                case "save":
                    adapters[which].save(tmp_path / f"of-{number}")
                    continue
                case _:
                    own = engine.load_adapter(paths[which], base=base)
                    got = answer(own)
                    own.detach()
            if got != expected[which]:
                wrong.append((which, got))

    in_threads(work)
    assert wrong == []
    assert [answer(adapter) for adapter in adapters] == expected
    base.activate(None)
    assert bits(base.model) == before


def test_a_run_does_not_depend_on_what_is_mounted_before(base, adapters, engine):
    tensors = []
    for mounted in (None, adapters[0], adapters[2]):
        base.activate(None)
        if mounted is not None:
            mounted.use()
        trained = engine.train(base, texts(), settings={"rank": 2}, config=CONFIG)
        tensors.append({name: tensor.detach().clone() for name, tensor in trained.attachment.tensors.items()})
        trained.detach()
    for others in tensors[1:]:
        assert others.keys() == tensors[0].keys()
        assert all(tensor.equal(tensors[0][name]) for name, tensor in others.items())


def test_a_run_beside_predictions_gives_what_it_gives_alone(base, adapters, engine):
    # Without dropout: random numbers are drawn from one stream, which the threads of a program share.
    settings = {"rank": 2, "dropout": 0.0}
    alone = engine.train(base, texts(), settings=settings, config=CONFIG, eval_data=texts())
    tensors = {name: tensor.detach().clone() for name, tensor in alone.attachment.tensors.items()}
    expected = answer(adapters[0])
    wrong = []

    def work(number: int) -> None:
        if number % 4:
            wrong.extend(got for got in (answer(adapters[0]) for _ in range(4)) if got != expected)
            return
        trained = engine.train(base, texts(), settings=settings, config=CONFIG, eval_data=texts())
        if trained.metrics != alone.metrics or trained.evaluate(texts()).record() != alone.metrics:
            wrong.append(trained.metrics)
        if any(not tensor.equal(tensors[name]) for name, tensor in trained.attachment.tensors.items()):
            wrong.append("other weights")
        trained.detach()

    in_threads(work)
    assert wrong == []


def test_a_detached_adapter_says_so_in_every_thread(base, engine):
    adapter = engine.train(base, texts(), settings={"rank": 2}, config=CONFIG)
    expected, said = answer(adapter), []

    def work(number: int) -> None:
        if number == 0:
            adapter.detach()
            return
        try:
            while True:
                assert answer(adapter) == expected
        except ConfigError as error:
            said.append(str(error))

    in_threads(work)
    assert len(said) == THREADS - 1
    assert all("was detached from its base" in line for line in said)


def test_threads_with_different_bases_run_side_by_side(adapters, engine):
    other = engine.train(tiny_base("encoder"), texts(), settings={"rank": 2}, config=CONFIG)
    # Passed only by two forward passes that are inside their models at the same moment.
    both_inside = threading.Barrier(2, timeout=60)

    def wait(*_: object) -> None:
        both_inside.wait()

    hooks = [
        adapter.base.model.get_submodule(adapter.base.map.layers[0]).register_forward_pre_hook(wait)
        for adapter in (adapters[0], other)
    ]
    try:
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(adapter.predict, TEXTS[:1]) for adapter in (adapters[0], other)]
            assert [len(done.result()) for done in running] == [1, 1]
    finally:
        for hook in hooks:
            hook.remove()


def test_a_base_can_be_held_over_several_calls(base, adapters):
    expected = answer(adapters[1])
    got, held = [], threading.Event()

    def elsewhere() -> None:
        held.wait(60)
        got.append(answer(adapters[1]))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with base.lock:
        adapters[0].use()
        held.set()
        answer(adapters[0])
        assert base.active is adapters[0].attachment.view
        assert got == [], "the other thread waits"
        adapters[0].use()
    thread.join()
    assert got == [expected]
