"""Runs identity.ipynb in a real ipykernel and prints what its cells printed."""
import pathlib
import sys

import nbclient
import nbformat

here = pathlib.Path(__file__).parent
notebook = nbformat.read(here / "identity.ipynb", as_version=4)
nbclient.NotebookClient(notebook, timeout=60, kernel_name=sys.argv[1]).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        sys.stdout.write(output.get("text", ""))
