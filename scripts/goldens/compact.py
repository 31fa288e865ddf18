"""How goldens are written: JSON that diffs by line and stays small."""

import json


def dump(value, depth=0):
    """JSON with one line per list of numbers, nine significant digits."""
    pad = " " * (depth + 1)
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict):
        rows = [f"{pad}{json.dumps(k)}: {dump(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}" + ("\n" if depth == 0 else "")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(pad + dump(v, depth + 1) for v in value) + "\n" + " " * depth + "]"
    if isinstance(value, list):
        return "[" + ",".join(dump(v) for v in value) + "]"
    return json.dumps(value)
