"""List what --option takes: how a recipe is run, as opposed to what it learns, with default and range of each.

`sisr recipes NAME` lists what --set takes.
"""

from sisr.config.settings import expected
from sisr.pipelines._options import Json, written
from sisr.terminal import cli, console
from sisr.training.options import Options

GROUPS = {  # of those that people ask for by what they want; all others stand under the last one
    "speed and memory": (["precision", "accumulate", "checkpoint_activations", "channels_last", "compile", "threads"]),
    "validation and length": ["evaluate_every", "validation_side", "perceptual", "sample_rows", "patience"],
    "learning": ["seed", "clip_norm", "ema_half_life_images", "deterministic"],
}
OTHERS = "records and images"


def main(json: Json = False) -> None:
    """Print all options of a run."""
    group = {name: title for title, names in GROUPS.items() for name in names}
    rows = [
        {
            "name": name,
            "group": group.get(name, OTHERS),
            "default": field.default,
            "wants": expected(field),
            "meaning": field.description,
        }
        for name, field in Options.model_fields.items()
    ]
    if json:
        console.print_json({"options": rows})
        return
    for title in (*GROUPS, OTHERS):
        cells = [
            (str(row["name"]), written(row["default"]), str(row["wants"]), str(row["meaning"]))
            for row in rows
            if row["group"] == title
        ]
        if cells:
            console.table(title, ("option", "default", "wants", "meaning"), cells)
    console.out.print("Such as: sisr train RECIPE --option evaluate_every=200 --option accumulate=2", markup=False)


if __name__ == "__main__":
    cli.run(main)
