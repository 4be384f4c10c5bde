"""A folder of classes: one file a class with an example a line, or one folder a class with an example a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wavefront.data.readers.reader import Column, Options, Reader, Row, ending, lines, stem
from wavefront.errors import DataError

__all__ = ["Classes"]


class Classes(Reader):
    """Columns `text` and `label`: the label is the name of the file (or folder), blank lines are left out."""

    format = "folder of classes"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        from wavefront.data.layout import visible

        files, folders = visible(path)
        self.by_line = not folders
        self.classes = [(stem(p), [p]) for p in files] if self.by_line else [(p.name, visible(p)[0]) for p in folders]
        if len(self.classes) < 2:
            raise DataError(
                f"{path}: expected a text file (or a folder of them) for each of at least two classes, got {len(self.classes)}."
            )
        self.columns = (Column("text", "text"), Column("label", "text"))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        from wavefront.data.layout import visible

        if not path.is_dir():
            return False
        files, folders = visible(path)
        texts = files or [p for folder in folders for p in visible(folder)[0]]
        return len(files or folders) >= 2 and all(ending(p) in (".txt", ".text", "") for p in texts)

    def files(self) -> list[Path]:
        return [path for _, paths in self.classes for path in paths]

    def rows(self) -> Iterator[Row]:
        for label, paths in self.classes:
            for path in paths:
                if self.by_line:
                    for _, line in lines(path):
                        if line.strip():
                            yield {"text": line.strip(), "label": label}
                else:
                    yield {"text": "\n".join(line for _, line in lines(path)).strip(), "label": label}
