"""Write the API-format twin of every shared workflow: workflows/NAME.json to workflows/api/NAME.json.

    python scripts/make_workflow_api.py --server http://127.0.0.1:8188           # a ComfyUI with this pack
    python scripts/make_workflow_api.py --server http://127.0.0.1:8188 --check   # say which are out of date

A saved graph lists widget values by position; the names come from the server's ``/object_info``. Only what the graph
holds is written, never a server's own defaults, so that the twin is the same whichever ComfyUI version made it.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
NOTES = {"Note", "MarkdownNote"}  # only the browser knows them
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}

Json = dict[str, Any]


def api_format(graph: Json, object_info: Mapping[str, Json]) -> Json:
    """The prompt that a browser would send for a graph.

    graph: UI format 0.4, without subgraphs, muted or bypassed nodes. object_info: as the server gives it.
    Raises ValueError, naming the node, for what is not understood.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in sorted(graph["nodes"], key=lambda node: node["id"]):
        kind = node["type"]
        if kind in NOTES:
            continue
        if kind not in object_info:
            raise ValueError(f"node {node['id']} is a {kind}, which this server does not have")
        if node.get("mode", 0) != 0:
            raise ValueError(f"node {node['id']} ({kind}) is muted or bypassed; a shared workflow runs as a whole")
        info = object_info[kind]
        inputs = dict(zip(widget_names(info), node.get("widgets_values") or [], strict=False))
        for socket in node.get("inputs", []):
            if socket["link"] is not None:
                inputs[socket["name"]] = links[socket["link"]]
        title = node.get("title") or info["display_name"]
        prompt[str(node["id"])] = {"inputs": inputs, "class_type": kind, "_meta": {"title": title}}
    return prompt


def widget_names(info: Json) -> Iterator[str]:
    """The inputs of a node that have a widget, in the order in which a saved graph lists their values."""
    for section in ("required", "optional"):
        for name, (kind, *rest) in info["input"].get(section, {}).items():
            options = rest[0] if rest else {}
            if options.get("forceInput") or not (isinstance(kind, list) or kind in WIDGET_TYPES):
                continue
            if options.get("control_after_generate"):
                raise ValueError(f"{info['name']}.{name} changes after each run; a shared workflow does not")
            yield name


def fetch_object_info(server: str) -> dict[str, Json]:
    with urllib.request.urlopen(f"{server}/object_info") as response:
        return json.load(response)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="a running ComfyUI that has this pack")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a twin is out of date")
    options = parser.parse_args()
    object_info = fetch_object_info(options.server)
    stale = []
    for path in sorted(FOLDER.glob("*.json")):
        twin = FOLDER / "api" / path.name
        prompt = api_format(json.loads(path.read_text(encoding="utf-8")), object_info)
        text = json.dumps(prompt, indent=2, ensure_ascii=False) + "\n"
        if twin.exists() and twin.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not options.check:
            twin.parent.mkdir(exist_ok=True)
            twin.write_text(text, encoding="utf-8")
    print(("out of date: " if options.check else "written: ") + (", ".join(stale) or "none"))
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
