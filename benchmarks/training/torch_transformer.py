"""The transformer of `ecg_jax.models` and its train step in plain PyTorch, timed by `benchmarks.training.train_step`.

Run by that benchmark with an interpreter that has PyTorch and NumPy, which need not be the project's own: a file of
arrays and a specification come in by path, commands by lines on the standard input, answers in JSON lines.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Attention, then feed-forward, each adding its share to the residual stream."""

    def __init__(self, spec: dict[str, Any]):
        super().__init__()
        width, self.spec = spec["width"], spec
        self.attention_norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """One block, `(B, L, M)` to the same."""
        spec, (batch, tokens, width) = self.spec, x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, tokens, 3, spec["heads"], width // spec["heads"])
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=spec["attention_scale"])
        x = x + spec["residual_multiplier"] * self.mix(mixed.transpose(1, 2).reshape(batch, tokens, width))
        hidden = F.gelu(self.up(self.feed_norm(x)), approximate="tanh")
        return x + spec["residual_multiplier"] * self.down(hidden)


class Embed(nn.Module):
    """Visible samples and the bits that say which, to tokens."""

    def __init__(self, spec: dict[str, Any]):
        super().__init__()
        self.project = nn.Linear(12 * (spec["patch_samples"] + 1), spec["width"], bias=False)
        self.position = nn.Parameter(torch.zeros(spec["patches"], spec["width"]))

    def forward(self, cells: Tensor) -> Tensor:
        """`(B, T, 12 (P + 1))` to `(B, T, M)`."""
        return self.project(cells) + self.position


class Head(nn.Module):
    """Tokens to all samples of the eight independent leads."""

    def __init__(self, spec: dict[str, Any]):
        super().__init__()
        self.project = nn.Linear(spec["width"], 8 * spec["patch_samples"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, M)` to `(B, T, 8 P)`."""
        return self.project(x)


class Transformer(nn.Module):
    """The model; names of parameters are those of the JAX model's tree."""

    def __init__(self, spec: dict[str, Any]):
        super().__init__()
        self.spec = spec
        self.embed = Embed(spec)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec["depth"]))
        self.norm = nn.LayerNorm(spec["width"], eps=1e-6, bias=False)
        self.head = Head(spec)

    def forward(self, ecg: Tensor, visible: Tensor) -> Tensor:
        """z-scored `(B, S, 12)` and what may be seen of it `(B, T, 12)`, to `(B, T, P, 8)` in float32."""
        spec, batch = self.spec, len(ecg)
        patches = ecg.view(batch, spec["patches"], spec["patch_samples"], 12)
        seen = torch.where(visible[:, :, None], patches, 0.0).transpose(2, 3)
        x = self.embed(torch.cat([seen, visible[..., None].to(seen.dtype)], dim=-1).flatten(2))
        for block in self.blocks:
            x = block(x)
        out = self.head(self.norm(x)) * spec["readout_multiplier"]
        return out.view(batch, spec["patches"], 8, spec["patch_samples"]).transpose(2, 3).float()


class Trainer:
    """Model, optimiser and train step of a specification."""

    def __init__(self, spec: dict[str, Any], weights: dict[str, np.ndarray], device: str):
        self.spec, self.device = spec, device
        self.model = Transformer(spec)
        self.model.load_state_dict({name: torch.from_numpy(weights[name]) for name in self.model.state_dict()})
        self.model.to(device)
        groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            rate, epsilon = spec["multipliers"][name]
            decay = spec["weight_decay"] / rate if parameter.ndim > 1 else 0.0
            groups.setdefault((rate * spec["learning_rate"], 1e-8 * epsilon, decay), []).append(parameter)
        self.optimiser = torch.optim.AdamW(
            [{"params": p, "lr": r, "eps": e, "weight_decay": d} for (r, e, d), p in groups.items()],
            betas=(0.9, 0.95),
            fused=True,
        )
        self.unit_of_lead = torch.tensor(spec["unit_of_lead"], device=device)
        self.unit_of_target = torch.tensor(spec["unit_of_target"], device=device)
        self.independent = torch.tensor(spec["independent"], device=device)

    def loss(self, counts: Tensor, hidden: Tensor) -> Tensor:
        """The masked loss of int16 records `(B, S, 12)` of which `hidden` `(B, T, 7)` may not be seen."""
        x = counts.float()
        centred = x - x.mean(dim=1, keepdim=True)
        deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
        x = centred / (deviation + (deviation == 0))
        present = (x != 0).any(dim=1)
        visible = ~hidden[:, :, self.unit_of_lead] & present[:, None]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.spec["precision"] == "bfloat16"):
            predicted = self.model(x, visible)
        target = x[:, :, self.independent].view(predicted.shape)
        scored = (hidden[:, :, self.unit_of_target] & present[:, self.independent][:, None])[:, :, None]
        squares = ((predicted - target).square() * scored).sum()
        return squares / (scored.sum() * predicted.shape[2]).clamp(min=1)

    def gradients(self, counts: Tensor, hidden: Tensor) -> Tensor:
        """Loss and its gradients, left in the parameters."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(counts, hidden)
        loss.backward()
        return loss.detach()

    def step(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """One train step on int16 records: the loss and the norm of its gradient."""
        spec = self.spec
        hidden = torch.rand(len(counts), spec["patches"], 7, device=self.device) < spec["mask_ratio"]
        loss = self.gradients(counts.to(self.device), hidden)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), spec["gradient_clip"])
        self.optimiser.step()
        return loss, norm


def main() -> None:
    """Answers one command a line until the input ends."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    arrays = dict(np.load(sys.argv[2], allow_pickle=False))
    device = "cpu" if spec["threads"] else "cuda"
    trainer = Trainer(spec, arrays, device)
    batch = torch.from_numpy(arrays["batch"])
    if spec["compile"]:
        trainer.loss = torch.compile(trainer.loss)
    for line in sys.stdin:
        print(json.dumps(_answer(trainer, batch, torch.from_numpy(arrays["hidden"]), line.split())), flush=True)


def _answer(trainer: Trainer, batch: Tensor, hidden: Tensor, command: list[str]) -> dict[str, Any]:
    match command:
        case ["check"]:
            began = time.perf_counter()
            loss = float(trainer.gradients(batch.to(trainer.device), hidden.to(trainer.device)))
            first_s = time.perf_counter() - began
            squares = sum(float(p.grad.square().sum()) for p in trainer.model.parameters())
            return {"loss": loss, "gradient_norm": math.sqrt(squares), "wall_s": first_s}
        case ["steps", number]:
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(number)):
                metrics = trainer.step(batch)
            loss = float(metrics[0])  # waits for the device
            return {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "loss": loss}
        case ["memory"]:
            peak = torch.cuda.max_memory_allocated() if trainer.device == "cuda" else None
            return {"bytes": peak or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        case ["products"]:
            return {"flops_per_s": _products(trainer.device, trainer.spec)}
    raise ValueError(f"unknown command: {command}")


def _products(device: str, spec: dict[str, Any]) -> float:
    """The best rate of one large square matrix product, FLOP/s."""
    size = 8192 if device == "cuda" else 512
    dtype = torch.bfloat16 if spec["precision"] == "bfloat16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = math.inf
    for _ in range(20 if device == "cuda" else 200):
        began = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


if __name__ == "__main__":
    main()
