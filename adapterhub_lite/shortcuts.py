"""The functions of the package: the methods of one engine with the installed plug-ins, made when this is imported."""

from __future__ import annotations

from adapterhub_lite.engine import Engine

_engine = Engine()

load_base = _engine.load_base
load_data = _engine.load_data
train = _engine.train
load_adapter = _engine.load_adapter
strategies = _engine.strategies
