"""Times as people write them, their frequency, and rows that are irregular, duplicate, unsorted or across a clock change."""

import numpy as np
import pytest

from wavefront.data import open_source
from wavefront.data.dates import read_times, written
from wavefront.data.frequency import Frequency
from wavefront.data.panel import Roles, read_panel
from wavefront.errors import DataError, SettingsError

ROLES = Roles(("y",), "ds")


def days(first, count, step=1, unit="D"):
    return [str(day) for day in np.datetime64(first, unit) + step * np.arange(count)]


def panel(tmp_path, times, values=None, roles=ROLES, **how):
    file = tmp_path / "series.csv"
    values = range(len(times)) if values is None else values
    file.write_text("ds,y\n" + "".join(f"{time},{value}\n" for time, value in zip(times, values)))
    return read_panel(open_source(file), roles, **how)


@pytest.mark.parametrize(
    ("times", "name", "season"),
    [
        (days("2024-01-01", 10), "day", 7),
        (days("2024-01-01", 10, 7), "week", 52),
        (days("2023-11", 10, unit="M"), "month", 12),
        (days("2023-01", 10, 3, "M"), "quarter", 4),
        (["2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29"], "month", 12),
        (days("2024-02-28T22", 30, unit="h"), "hour", 24),
        (days("2024-02-28T22:00", 30, 15, "m"), "15 minutes", 96),
        (["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10"], "business day", 5),
        ([1700, 1701, 1702], "step of 1", 1),
        ([10, 20, 30, 40], "step of 10", 1),
    ],
)
def test_the_frequency_is_seen_from_the_times(tmp_path, times, name, season):
    times = [f"{time}:00" if isinstance(time, str) and len(time) == 13 else time for time in times]
    found = panel(tmp_path, times)
    assert (str(found.frequency), found.frequency.season) == (name, season)
    at = found.series[0].at
    assert (found.frequency.after(at[0], len(at) - 1) == at[1:]).all()  # what comes after the first is what came
    assert written(at, found.style) == [value if isinstance(value, int) else value.replace("T", " ") for value in times]


def test_a_row_that_is_not_there_is_named_and_taken_as_missing_only_if_asked(tmp_path):
    times = [*days("2024-01-03", 5), *days("2024-01-10", 5)]
    with pytest.raises(DataError, match=r"row 6: expected ds='2024-01-08' \(a row every day\), got '2024-01-10': 2 rows are not there"):
        panel(tmp_path, times)
    found = panel(tmp_path, times, repair=["gaps"])
    assert np.isnan(found.series[0].y).tolist() == [k in (5, 6) for k in range(12)]
    assert found.missing == 2


def test_rows_that_do_not_ascend_are_named_and_sorted_only_if_asked(tmp_path):
    times = ["2024-01-01", "2024-01-03", "2024-01-02", "2024-01-04"]
    with pytest.raises(DataError, match="row 3: ds='2024-01-02' comes after '2024-01-03'"):
        panel(tmp_path, times)
    assert panel(tmp_path, times, repair=["sort"]).series[0].y.tolist() == [0, 2, 1, 3]


def test_a_time_that_comes_twice_is_named_and_the_last_kept_only_if_asked(tmp_path):
    times = ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"]
    with pytest.raises(DataError, match=r"row 3: a second row with ds='2024-01-02' \(the first is row 2\)"):
        panel(tmp_path, times)
    assert panel(tmp_path, times, repair=["duplicates"]).series[0].y.tolist() == [0, 2, 3]


def test_irregular_times_are_refused(tmp_path):
    times = ["2024-01-01 00:00:00", "2024-01-01 01:00:00", "2024-01-01 02:00:00", "2024-01-01 02:40:00"]
    with pytest.raises(DataError, match=r"row 4: ds='2024-01-01 02:40:00' is not a whole number of steps \(hour\)"):
        panel(tmp_path, times)


def test_the_hour_that_a_clock_change_repeats_or_leaves_out(tmp_path):
    autumn = ["2024-10-27 01:00:00", "2024-10-27 02:00:00", "2024-10-27 02:00:00", "2024-10-27 03:00:00"]
    with pytest.raises(DataError, match=r"row 3: a second row .* the hour that a clock change repeats, write the times in UTC"):
        panel(tmp_path, autumn)
    spring = ["2024-03-31 00:00:00", "2024-03-31 01:00:00", "2024-03-31 03:00:00", "2024-03-31 04:00:00"]
    with pytest.raises(DataError, match=r"row 3: .* the hour that a clock change leaves out"):
        panel(tmp_path, spring)
    offsets = ["2024-10-27T01:00:00+02:00", "2024-10-27T02:00:00+02:00", "2024-10-27T02:00:00+01:00", "2024-10-27T03:00:00+01:00"]
    found = panel(tmp_path, offsets)
    assert str(found.frequency) == "hour"
    assert found.times(found.series[0].at)[0] == "2024-10-26T23:00:00+00:00"


def test_days_across_a_clock_change_are_regular_on_the_wall(tmp_path):
    found = panel(tmp_path, ["2024-03-30T00:00:00+01:00", "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00"])
    assert str(found.frequency) == "day"


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["03/01/2024", "04/01/2024"], "row 1: 'ds' is '03/01/2024'; expected ISO 8601"),
        (["2024-02-28", "2024-02-30"], "row 2: 'ds' is '2024-02-30': there is no such time"),
        (["2024-02-28", "2024-03"], "row 2: 'ds' is '2024-03', but '2024-02-28' in row 1"),
        (["2024-02-28", ""], "row 2: 'ds' is empty"),
        ([1, 2.5], "row 2: 'ds' is 2.5; times as numbers are whole ones"),
    ],
)
def test_times_that_cannot_be_read(times, said):
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read_times(times, "ds", "x.csv")


def test_series_of_a_long_file_each_begin_and_end_where_they_do(tmp_path):
    file = tmp_path / "long.csv"
    rows = [
        f"{name},{day},{k}" for name, first, n in (("b", "2024-01-03", 4), ("a", "2024-01-01", 6)) for k, day in enumerate(days(first, n))
    ]
    file.write_text("shop,day,sold\n" + "\n".join(rows) + "\n")
    found = read_panel(open_source(file), Roles(("sold",), "day", "shop"))
    assert [(series.id, len(series.y)) for series in found.series] == [("b", 4), ("a", 6)]
    until = read_panel(open_source(file), Roles(("sold",), "day", "shop"), cutoff="2024-01-04")
    assert [(series.id, len(series.y)) for series in until.series] == [("b", 2), ("a", 4)]


def test_what_is_missing_stays_missing_and_covariates_may_not_be(tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text("ds,a,b,price\n2024-01-01,,1,5\n2024-01-02,2,,5\n2024-01-03,3,3,\n")
    found = read_panel(open_source(file), Roles(("a", "b"), "ds"))
    assert found.series[0].y.tolist() == [2, 3]
    assert np.isnan(found.series[1].y).tolist() == [False, True, False]
    with pytest.raises(DataError, match="row 3: the covariate 'price' is empty"):
        read_panel(open_source(file), Roles(("a",), "ds", past=("price",)))


def test_a_static_covariate_that_changes_is_refused(tmp_path):
    file = tmp_path / "long.csv"
    file.write_text("unique_id,ds,y,region\na,1,1,north\na,2,2,south\n")
    with pytest.raises(DataError, match=r"row 2 .*'region' is 'south', but 'north' before"):
        read_panel(open_source(file), Roles(("y",), "ds", "unique_id", static=("region",)))


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(SettingsError, match="repair takes sort, duplicates, gaps; got 'fill'"):
        panel(tmp_path, days("2024-01-01", 3), repair=["fill"])
    with pytest.raises(SettingsError, match="no row is of 2023-01-01 or before"):
        panel(tmp_path, days("2024-01-01", 3), cutoff="2023-01-01")
    with pytest.raises(DataError, match="no series has two rows"):
        panel(tmp_path, days("2024-01-01", 1))


def test_the_calendar_tells_the_hour_the_weekday_and_the_season():
    hourly = Frequency("second", 3600)
    at = np.array(["2024-01-01T06:00:00", "2024-01-08T06:00:00", "2024-01-08T18:00:00"], "datetime64[s]")
    place = hourly.calendar(at)
    assert place.shape == (3, 6)
    assert place[0, :2] == pytest.approx(place[1, :2])  # the same hour, the same weekday
    assert place[1, 0] == pytest.approx(-place[2, 0])  # twelve hours later
