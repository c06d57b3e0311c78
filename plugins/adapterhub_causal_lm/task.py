"""Text to continue: plain text, prompt and completion, or chats; the loss is on the text that is to be learnt alone."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_causal_lm.options import CausalLMOptions
from adapterhub_causal_lm.packing import SEGMENTS, UNPACKED, block_mask, check_packing, packed_batch, unpacked
from adapterhub_causal_lm.tokens import IGNORED, encode_item, prompt_ids
from adapterhub_lite.api import (
    SAMPLE_TEXTS,
    AdapterCorruptError,
    Base,
    Batch,
    ConfigError,
    DataError,
    Dataset,
    Encoded,
    Example,
    Modality,
    ModelMap,
    NotSupportedError,
    Preprocessing,
    TargetKind,
    Task,
    check_characters,
    checked_length,
    collected,
    is_out_of_memory,
    pad_tokens,
    place,
)

NO_HEAD = "this base has no language-modelling head; causal-lm needs a decoder saved with one"
LONGEST = 1024
PACKING_TOLERANCES = {torch.float32: 1e-3}
"""The largest difference that packing may make to a loss; larger where the base computes in half precision."""


class CausalLM(Task):
    """Continue a text with the base's own output layer; only tokens of the text to be learnt count in the loss."""

    name = "causal-lm"
    modality: Modality = "text"
    metric = "loss"
    higher_is_better = False
    generates = True
    target_kind: TargetKind = "classes"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels: tuple[str, ...] = tuple(labels)
        self.preprocessing = preprocessing
        self.packing = bool(preprocessing.options.get("packing", False))
        self.pads = not self.packing
        self._shown_exact = False

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: CausalLMOptions) -> Preprocessing:
        """Settle the length; refuse a base that has no chat template for chats, or cannot take packed examples."""
        if base.map.output is None:
            raise NotSupportedError(NO_HEAD)
        if base.map.sees_padding:
            raise NotSupportedError(
                f"what '{base.reference}' predicts depends on the padding behind a text, so batches cannot be learnt from; use "
                "another base"
            )
        length = checked_length(base, options.max_length, LONGEST)
        if data.form == "chat" and not base.tokenizer.chat_template:
            raise NotSupportedError(
                f"'{base.reference}' has no chat template, so it cannot be trained on messages; "
                "use prompt and completion columns"
            )
        if options.packing:
            check_packing(base.model, base.reference, length)
        given = options.model_dump(mode="json", exclude_unset=True)
        return Preprocessing(max_length=length, form=data.form, options=given)

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        if model_map.output is None:
            raise NotSupportedError(NO_HEAD)
        return None

    def outputs(self, base: Base) -> int:
        return int(base.model.get_output_embeddings().weight.shape[0])

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        limit = self.preprocessing.max_length
        rows, cut = array("q"), 0

        def made() -> Iterator[Example]:
            nonlocal cut
            for row, item in enumerate(dataset.inputs):
                try:
                    ids, labels = encode_item(item, base.tokenizer)
                except DataError as error:
                    where = dataset.table.where(row) if dataset.table is not None else place(dataset.source, row)
                    raise DataError(f"{where}: {error}") from error
                if limit and len(ids) > limit:
                    ids, labels, cut = ids[:limit], labels[:limit], cut + 1
                weight = sum(label != IGNORED for label in labels[1:])
                if weight:
                    rows.append(row)
                    yield Example(ids, labels, len(ids), weight, rows=weight)

        examples = collected(made())
        dropped = len(dataset) - len(examples)
        if not examples:
            raise DataError(
                f"{dataset.source}: no row has anything left to learn within {limit} tokens; raise --max-length"
            )
        notes = []
        if cut:
            notes.append(f"{cut} of {len(dataset)} rows are longer than {limit} tokens and were cut")
        if dropped:
            notes.append(
                f"{dropped} of {len(dataset)} rows have nothing to learn within {limit} tokens and were left out"
            )
        return Encoded(examples, tuple(notes), tuple(rows) if dropped else None)

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        if self.packing:
            items = [(example.inputs, example.target) for example in examples]
            room = self.preprocessing.max_length or max(example.length for example in examples)
            return packed_batch(items, room, base.tokenizer.pad_token_id or 0, IGNORED)
        batch = pad_tokens([example.inputs for example in examples], base.tokenizer.pad_token_id)
        targets = torch.full(batch["input_ids"].shape, IGNORED)
        for i, example in enumerate(examples):
            targets[i, : len(example.target)] = torch.tensor(example.target)
        batch["targets"] = targets
        return batch

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        self._show_exact(base, batch)
        seen: list[Tensor] = []
        _, targets = self._run(base, batch, seen.append)
        return seen[0].float(), targets

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        self._show_exact(base, batch)
        return self._run(base, batch, None)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, reduction="none")

    def prompt_ids(self, prompt: str | Text | Completion | Chat, base: Base) -> list[int]:
        """The ids of a prompt. An adapter trained on chats takes a text as a user's turn.

        Args:
            prompt: The text, without any template, or an item of a dataset of this task; its own completion is not used.
            base: Whose tokenizer.

        Raises:
            ConfigError: a prompt that is neither.
        """
        if not isinstance(prompt, (str, Text, Completion, Chat)):
            raise ConfigError(f"the prompt is a {type(prompt).__name__}; give a text, or an item of a dataset")
        if isinstance(prompt, str):
            check_characters(prompt, "the prompt")
        return prompt_ids(prompt, base.tokenizer, chat=self.preprocessing.form == "chat")

    def predictions(self, logits: Tensor, data: Encoded) -> list[Any]:
        raise NotSupportedError("a language model has no labels to predict; use generate")

    def samples(self) -> list[Any]:
        form = self.preprocessing.form
        if form == "chat":
            return [Chat((Message("user", text), Message("assistant", text))) for text in SAMPLE_TEXTS]
        return [Completion(text, text) if form == "completion" else Text(text) for text in SAMPLE_TEXTS]

    def probe(self, item: Any, number: int) -> Any:
        if isinstance(item, Chat):
            return {"messages": [{"role": m.role, "content": m.content} for m in item.messages]}
        if isinstance(item, Completion):
            return {"prompt": item.prompt, "completion": item.completion}
        return {"text": item.text} if isinstance(item, Text) else None

    def item_of_probe(self, value: Any) -> Any:
        match value:
            case {"text": str(text), **rest} if not rest:
                return Text(text)
            case {"prompt": str(prompt), "completion": str(completion), **rest} if not rest:
                return Completion(prompt, completion)
            case {"messages": [*messages], **rest} if not rest and messages:
                return Chat(tuple(_message_of_probe(message) for message in messages))
        raise AdapterCorruptError(
            f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
        )

    def metrics(
        self, logits: Tensor, targets: Tensor, loss: float, rows: Sequence[int] | None = None
    ) -> dict[str, float]:
        # exp overflows a double at 709; a loss like that is a broken model, whose perplexity is as good as infinite.
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}

    def _show_exact(self, base: Base, batch: Batch) -> None:
        """Compare the losses of the first packed examples of a run with those of the same examples, one to a row.

        Raises:
            NotSupportedError: they differ, so the model, or the strategy on it, lets examples in one row see each other.
        """
        # The processes of a sharded base have to run it equally often, whoever has packed rows.
        if self._shown_exact or SEGMENTS not in batch or base.shards is not None:
            return
        row = int(batch[SEGMENTS].max(dim=1).values.argmax())
        if int(batch[SEGMENTS][row].max()) < 2:
            return  # nothing was packed; look again next time
        packed = {name: tensor[[row]] for name, tensor in batch.items()}
        modes = [(module, module.training) for module in base.model.modules()]
        base.model.eval()
        try:
            with torch.no_grad():
                alone = self.losses(*self._run(base, unpacked(packed, IGNORED), None))
                together = self.losses(*self._run(base, packed, None))
            difference = float((together - alone).abs().max()) / max(1.0, float(alone.abs().max()))
        except (RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise  # what is tried with fewer examples is compared again
            raise NotSupportedError(
                f"'{base.reference}' does not take a mask of blocks ({type(error).__name__}); {UNPACKED}"
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
        if not difference < PACKING_TOLERANCES.get(base.dtype, 0.2):
            raise NotSupportedError(
                f"packing changes what '{base.reference}' computes with this strategy (losses by up to {difference:.1g}), "
                f"so that examples would see each other; {UNPACKED}"
            )
        self._shown_exact = True

    def _run(self, base: Base, batch: Batch, watch: Callable[[Tensor], None] | None) -> tuple[Tensor, Tensor]:
        """Run the model with only the supervised positions passing through the output layer.

        They are gathered by a hook in front of that layer and not by calling the parts one by one, so that whatever a
        model does to its logits afterwards (scaling, soft-capping) is done. Each token is predicted from the one before.
        """
        wanted = batch["targets"][:, 1:]  # (batch, tokens - 1)
        keep = wanted != IGNORED

        def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            rows = args[0][:, :-1][keep]  # (n, hidden)
            if watch is not None:
                watch(rows)
            return (rows[None], *args[1:])

        inputs = {"input_ids": batch["input_ids"]}
        if SEGMENTS in batch:
            config = base.model.config
            mask = block_mask(batch[SEGMENTS], config._attn_implementation, base.dtype)
            inputs |= {"attention_mask": mask, "position_ids": batch["position_ids"]}
        else:
            inputs["attention_mask"] = batch["attention_mask"]
        handle = base.model.get_output_embeddings().register_forward_pre_hook(gather)
        try:
            output = base.model(**inputs, use_cache=False)
        finally:
            handle.remove()
        return output.logits[0].float(), wanted[keep]


def _message_of_probe(value: Any) -> Message:
    match value:
        case {"role": str(role), "content": str(content), **rest} if not rest:
            return Message(role, content)
    raise AdapterCorruptError(
        f"adapterhub.json: probe message not understood: {str(value)[:80]!r}; save the adapter again"
    )
