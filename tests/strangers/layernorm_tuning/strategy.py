"""The half of layernorm_tuning that needs torch."""

from adapterhub_lite.api import NotSupportedError


class LayerNormTuning:
    def attach(self, view, config):
        norms = {path for path, module in view.model.named_modules() if "norm" in type(module).__name__.lower()}
        names = [name for name, _ in view.model.named_parameters() if name.rpartition(".")[0] in norms]
        if not names:
            raise NotSupportedError("layernorm_tuning: this model has no norms; use lora")
        return view.train_base(names)
