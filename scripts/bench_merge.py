"""Merging a checkpoint to disk: ours tensor by tensor, against peft's merge_and_unload + save_pretrained, and a copy.

    python scripts/bench_merge.py [--shape 7b] [--rank 16] [--work DIR] [--output bench_merge.json]

Makes a random bfloat16 Llama of a real model's shape and a LoRA on all its linear layers, then writes the merged
model in each way, every one in a process of its own, with the page cache dropped first where that is allowed. Seconds
are wall time from the start of the process until the files are on the disk (fsync), ours with hashes of all files and
the proof; memory is the process's peak of resident pages (VmHWM, mapped files among them) and of its own pages alone.
Prints ours, the peer and the ratios, and compares the two merged folders tensor by tensor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

SHAPES = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 32, "vocab_size": 32000},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 32000},
}  # fmt: skip


def write_base(folder: Path, shape: str) -> None:
    """Writes a random model of this shape, one file a layer, never holding more than one tensor."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from peft_eval.merging.block_writer import write_files
    from peft_eval.merging.sources import Whole
    from peft_eval.merging.tensor_files import PlannedTensor, plan_files, write_index

    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=False, dtype="bfloat16")
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    plan = [PlannedTensor(name, torch.bfloat16, tuple(value.shape)) for name, value in model.state_dict().items()]
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(1 << 22, generator=generator).mul_(0.02).to(torch.bfloat16)

    def value(tensor: PlannedTensor) -> torch.Tensor:
        count = torch.Size(tensor.shape).numel()
        return small.repeat(-(-count // small.numel()))[:count].reshape(tensor.shape)

    files = plan_files(plan, 5_000_000_000)
    write_files(folder, files, {tensor.name: Whole(tensor, partial(value, tensor)) for tensor in plan})
    write_index(folder, files)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(str(folder))
    print(f"base: {sum(tensor.bytes for tensor in plan) / 1e9:.1f} GB, {shape} shape, random, bfloat16", flush=True)


def write_adapter(base: Path, folder: Path, rank: int) -> None:
    """Writes a LoRA on all linear layers whose weights are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
        config.base_model_name_or_path = str(base)
        adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    weights = {
        name.replace(".default", ""): torch.randn(tuple(parameter.shape), generator=generator).mul_(0.02)
        for name, parameter in adapted.named_parameters()
        if "lora_" in name
    }
    folder.mkdir()
    save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    config.inference_mode = True
    config.save_pretrained(str(folder))


def merge(kind: str, base: Path, adapter: Path, output: Path) -> None:
    """Writes the merged model in one way; `base` may be "imports" to import what that needs and stop."""
    only_imports = str(base) == "imports"
    if kind == "copy":
        if only_imports:
            return
        shutil.copytree(base, output)
    elif kind == "ours":
        from peft_eval.checkpoint.reading import open_checkpoint
        from peft_eval.merging.export import export_merged

        if only_imports:
            return
        print(export_merged(open_checkpoint(str(adapter)), output).proof, flush=True)
    else:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

        if only_imports:
            return
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        merged.save_pretrained(str(output))
    for path in output.rglob("*"):
        with path.open("rb") as file:
            os.fsync(file.fileno())


class PeakOfOwnPages(threading.Thread):
    """Watches how much memory of its own (not mapped files) the process has."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0

    def run(self) -> None:
        while True:
            self.bytes = max(self.bytes, status_bytes("RssAnon"))
            time.sleep(0.05)


def status_bytes(field: str) -> int:
    """Returns a field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {field}")


def drop_page_cache() -> bool:
    """Empties the page cache, if this user may."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


def measured(kind: str, base: Path, adapter: Path, output: Path) -> dict[str, Any]:
    """Runs `merge` in a process of its own; the imports that it needs count, compiling them does not."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(output.parent / "bytecode")
    start = [sys.executable, __file__, "--only", kind]
    subprocess.run([*start, "imports", "-", "-"], check=True, env=environment)
    dropped = drop_page_cache()
    started = time.perf_counter()
    subprocess.run([*start, str(base), str(adapter), str(output)], check=True, env=environment)
    seconds = time.perf_counter() - started
    memory = json.loads((output.parent / f"{kind}.json").read_text())
    return {"seconds": round(seconds, 2), **memory, "page_cache_dropped": dropped}


def largest_difference(ours: Path, theirs: Path) -> float:
    """Returns the largest absolute difference of any number of two model folders."""
    from peft_eval.merging.tensor_files import stored_tensors

    left, right = stored_tensors(ours), stored_tensors(theirs)
    if left.keys() != right.keys():
        raise SystemExit(f"the folders hold other tensors: {sorted(left.keys() ^ right.keys())[:5]}")
    return max((left[name].read().float() - right[name].read().float()).abs().max().item() for name in left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--work", type=Path, help="folder with room for four times the model, which keeps the base")
    parser.add_argument("--only-make", action="store_true", help="make the base and the adapter in --work, then stop")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        kind, base, adapter, output = given.only[0], *map(Path, given.only[1:])
        own = PeakOfOwnPages()
        own.start()
        merge(kind, base, adapter, output)
        if str(base) != "imports":
            found = {"peak_bytes": status_bytes("VmHWM"), "peak_own_bytes": own.bytes}
            found["cpu_seconds"] = round(sum(os.times()[:2]), 2)
            (output.parent / f"{kind}.json").write_text(json.dumps(found))
        return
    with contextlib.ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base, adapter = work / f"base-{given.shape}", work / f"adapter-{given.shape}-{given.rank}"
        if not (base / "config.json").exists():
            base.mkdir(parents=True)
            write_base(base, given.shape)
        if not adapter.exists():
            write_adapter(base, adapter, given.rank)
        if given.only_make:
            return
        found = {}
        for kind in ("copy", "ours", "peft"):
            stack.callback(shutil.rmtree, work / kind, ignore_errors=True)
            found[kind] = measured(kind, base, adapter, work / kind)
            peak, own = found[kind]["peak_bytes"] / 1e9, found[kind]["peak_own_bytes"] / 1e9
            spent = f"{found[kind]['seconds']:8.1f} s, {found[kind]['cpu_seconds']:6.1f} CPU-seconds"
            print(f"{kind:5} {spent}; peak {peak:6.2f} GB, {own:6.2f} GB its own", flush=True)
            if kind == "copy":
                shutil.rmtree(work / kind)
        difference = largest_difference(work / "ours", work / "peft")
    ours, peft, copy = found["ours"], found["peft"], found["copy"]
    result = {
        "shape": given.shape,
        "rank": given.rank,
        **found,
        "peft_over_ours": peft["seconds"] / ours["seconds"],
        "ours_over_copy": ours["seconds"] / copy["seconds"],
        "largest_difference": difference,
        "cpus": os.cpu_count(),
    }
    print(f"peft / ours: {result['peft_over_ours']:.2f} times the time")
    print(f"ours / copy: {result['ours_over_copy']:.2f} times the time")
    print(f"largest difference between the two merged models: {difference:.3g}")
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
