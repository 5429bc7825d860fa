from graphdiff.experiments.budgets import budget, budget_warnings, trainings


def test_budgets_are_fair_where_trials_or_for_slow_models_hours_are_equal():
    ours, same = {"trials": 8, "hours": 1.0}, {"trials": 8, "hours": 0.1}
    assert budget_warnings({"ld4mrec": ours, "lightgcn": same}) == []
    slow = {"trials": 2, "hours": 1.0}  # half an hour each
    assert budget_warnings({"ld4mrec": ours, "diffmm": slow}) == []
    whole = budget({"trials": 4, "search": {"whole_grid": True}}, searchable=True)
    nothing = budget({}, searchable=False)
    assert budget_warnings({"ld4mrec": ours, "ease": whole, "popularity": nothing}) == []


def test_unfair_budgets_are_reported():
    ours, less = {"trials": 8, "hours": 1.0}, {"trials": 7, "hours": 0.4}
    [line] = budget_warnings({"ld4mrec": ours, "lightgcn": less})
    assert line == (
        "Warning: ld4mrec got a larger tuning budget (8 trials, 1.00 h) than lightgcn "
        "(7 trials, 0.40 h)."
    )
    assert budget_warnings({"ld4mrec": less, "lightgcn": ours}) == []
    [line] = budget_warnings({"a": ours, "b": budget({}, searchable=True)})
    assert line == "Warning: tuning budgets of the baselines differ, in trials: 0 for b; 8 for a."
    slow = {"trials": 2, "hours": 0.9}
    assert len(budget_warnings({"ld4mrec": ours, "diffmm": slow})) == 1


def test_trainings_before_the_search_are_reported():
    one = budget({"trials": 8, "search": {"earlier_runs": 7}}, searchable=True)
    [line] = budget_warnings({"lightgcn": one})
    assert line == (
        "Warning: the defaults of lightgcn came from at least 7 trainings on this dataset's "
        "validation pairs, which are not among its trials."
    )
    assert budget({}, searchable=True, earlier_runs=9)["earlier_runs"] == 9
    assert trainings({"tuning": one, "seeds": [{}, {}, {}]}) == 18
