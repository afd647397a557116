"""Every notebook runs from its first cell to its last, and shows its figures."""

import json
import pathlib

import matplotlib
import matplotlib.pyplot
import pytest
from matplotlib.figure import Figure

from notebooks.execute import MOST_BYTES, evaluate

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PNG = b"\x89PNG\r\n"
#: How many figures each shows.
SHOWN = {"chinchilla": 3, "realism_ladder": 5}


def shown_by(source: str, where: str, namespace: dict[str, object]) -> list[bytes]:
    """Runs a cell as a notebook does, and returns the images in its output: of the value of its last expression, which
    has to know how it is drawn, unless pyplot does, and of pyplot's open figures."""
    value = evaluate(source, where, namespace)
    images = [value._repr_png_()] if hasattr(value, "_repr_png_") and not source.rstrip().endswith(";") else []
    if isinstance(value, Figure) and not images and "plt" in namespace:  # pyplot shows figures that are not its own
        images.append(PNG)
    images += [PNG for number in matplotlib.pyplot.get_fignums()]
    matplotlib.pyplot.close("all")
    return images


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_figures(
    path: pathlib.Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    if "SCALING_DATA_DIR" in path.read_text():
        monkeypatch.setenv("SCALING_DATA_DIR", str(request.getfixturevalue("scaling_data_dir").resolve()))
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": path.stem}
    images = []
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            images += shown_by("".join(cell["source"]), f"{path.name}, {cell['id']}", namespace)
    assert len(images) == SHOWN[path.stem] and all(image.startswith(PNG) for image in images)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_what_it_shows(path: pathlib.Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) == SHOWN[path.stem], "run notebooks/execute.py"
    assert path.stat().st_size < MOST_BYTES
