"""Adapters by PEFT for the tiny checkpoint "plain", and what transformers computes with them merged: models/tests/goldens/lora."""

import json
import shutil

import peft
import torch
import transformers

from .compact import dump
from .tiny import load, run

BASE = "plain"
ADAPTERS = {
    "lora": {
        "r": 3,
        "lora_alpha": 6,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens"],
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"up_proj": 3},
        "use_rslora": True,
    },
    "dora": {
        "r": 2,
        "lora_alpha": 2,
        "target_modules": ["q_proj", "k_proj", "o_proj"],
        "layers_to_transform": [0],
        "modules_to_save": ["layers.0.self_attn.v_proj"],
        "use_dora": True,
    },
}
MERGED = [[("lora", 1.0)], [("dora", 1.0)], [("lora", 0.5), ("dora", 1.0)]]


def write(out):
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    folder = out / "lora"
    shutil.rmtree(folder, ignore_errors=True)
    base = out / "tiny" / BASE
    tokens = json.loads((base / "expected.json").read_text())["cases"][-1]["tokens"][:40]
    for i, (name, options) in enumerate(ADAPTERS.items()):
        torch.manual_seed(i)
        model = peft.get_peft_model(load(base), peft.LoraConfig(task_type="CAUSAL_LM", **options))
        for parameter_name, parameter in model.named_parameters():
            if "lora_magnitude" in parameter_name:
                parameter.data *= 0.7 + 0.6 * torch.rand_like(parameter)
            elif parameter.requires_grad:
                parameter.data = torch.randn_like(parameter) * 0.15
        model.peft_config["default"].base_model_name_or_path = BASE
        model.save_pretrained(folder / name)
        (folder / name / "README.md").unlink(missing_ok=True)
    cases = []
    for merged in MERGED:
        model = load(base)
        for name, scale in merged:
            model = peft.PeftModel.from_pretrained(model, folder / name)
            for module in model.modules():
                if isinstance(module, peft.tuners.lora.LoraLayer):
                    module.scaling["default"] *= scale  # scale_layer leaves embeddings as they are
            model = model.merge_and_unload()
        case, gap = run(model.eval(), tokens)
        assert gap > 1e-4, merged
        cases.append({"adapters": merged, **case})
    about = f"scripts/golden.py lora: peft {peft.__version__}, transformers {transformers.__version__}, merged into tiny/{BASE}"
    (folder / "expected.json").write_text(dump({"made_by": about, "cases": cases}))
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
