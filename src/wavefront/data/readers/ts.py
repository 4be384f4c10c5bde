"""The .ts format of sktime and aeon: several channels, any length.  [aeon-toolkit.org, "The .ts format"]"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wavefront.data.readers.reader import Column, Options, Reader, Row, empty_file, ending, lines
from wavefront.data.readers.ucr import numbers
from wavefront.errors import DataError

__all__ = ["Ts"]


class Ts(Reader):
    """Columns `series` [T, channels], and `label` (text) where the header says @classLabel true, `target` (a number) where it says
    @targetLabel true. After @data each line is one case: channels separated by `:`, values by `,`, the label last; `?` is a missing
    value. Series with time stamps (@timeStamps true) are refused.
    """

    format = "ts"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        header: dict[str, str] = {}
        for number, line in lines(path):
            if line.startswith("#") or not line.strip():
                continue
            if line.lower().startswith("@data"):
                self.start = number
                break
            if not line.startswith("@"):
                raise DataError(f"{path}, line {number}: expected a header line (@...) or @data, got {line[:60]!r}.")
            key, _, value = line[1:].partition(" ")
            header[key.lower()] = value.strip()
        else:
            raise empty_file(path, "a header with @data at its end, then one series a line")
        if header.get("timestamps", "false").lower() == "true":
            raise DataError(f"{path}: has time stamps (@timeStamps true), which this reader does not know. Write values without them.")
        self.target = "target" if header.get("targetlabel", "false").lower() == "true" else None
        label = header.get("classlabel", "false").split()
        self.labels = set(label[1:]) if label and label[0].lower() == "true" else None
        if self.labels is not None:
            self.target = "label"
        self.columns = (Column("series", "series"),)
        if self.target:
            self.columns += (Column(self.target, "text" if self.target == "label" else "number"),)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) == ".ts"

    def rows(self) -> Iterator[Row]:
        channels = None
        for number, line in lines(self.path):
            if number <= self.start or not line.strip() or line.startswith("#"):
                continue
            where = f"{self.path}, line {number}"
            parts = line.strip().split(":")
            row: Row = {}
            if self.target:
                value = parts.pop().strip()
                if self.target == "target":
                    row["target"] = self.finite(float(numbers([value], where)[0]), "target", where)
                elif self.labels and value not in self.labels:
                    raise DataError(f"{where}: class {value!r} is not one of the header's: {', '.join(sorted(self.labels))}.")
                else:
                    row["label"] = value
            channels = channels or len(parts)
            if len(parts) != channels or not parts:
                raise DataError(f"{where}: expected {channels} channels as in the case before, got {len(parts)}.")
            values = [numbers(part.split(","), f"{where}, channel {k}") for k, part in enumerate(parts, 1)]
            lengths = {len(v) for v in values}
            if len(lengths) != 1:
                raise DataError(f"{where}: the channels have different lengths: {', '.join(str(len(v)) for v in values)}.")
            yield {"series": self.finite(np.stack(values, axis=1), "series", where), **row}
