"""The demo, as it is: the chapter's own example is learned, by a network with memory alone."""

import json

import pytest

from wavefront.app.fitting import fit


@pytest.mark.learning
def test_years_are_found_in_sentences_of_forms_and_lengths_never_seen(tmp_path):
    run = fit("years", out=tmp_path / "years", quiet=True)
    metrics = json.loads((tmp_path / "years" / "metrics.json").read_text())
    assert metrics["test"]["span_f1"] >= 0.99  # templates, lengths and positions that training never had
    assert metrics["long"]["span_f1"] >= 0.99  # three times longer than any of training
    for name, scores in metrics["baselines"].items():
        assert scores["span_f1"] < 0.7, f"{name} needs no memory"
    labels = [prediction["labels"] for prediction in run.predict(["I went to Nepal in 2009", "In 2009, I went to Nepal"])]
    assert labels == [["O"] * 5 + ["B-YEAR"], ["O", "B-YEAR"] + ["O"] * 5]
