"""Diffusion processes on encoded rows, compared with dense rows."""

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.nn import (
    CombinedProcess,
    DiffusionSchedule,
    EncodedRows,
    FlippingProcess,
    GaussianProcess,
    MaskingProcess,
    RowProcess,
)


def generator():
    return torch.Generator().manual_seed(0)


def rows_of(*sizes):
    """Return rows with the items 0, 1, … of the given sizes."""
    size = torch.tensor(sizes)
    row = torch.arange(len(sizes)).repeat_interleave(size)
    return Rows(row, torch.cat([torch.arange(n) for n in sizes]), len(sizes))


def encoded(values):
    return EncodedRows(values, None, torch.eye(values.size(1)).double()[None], torch.ones(1))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.85])
def test_masking_hides_each_item_with_the_rate_of_its_step(share):
    process, rows = MaskingProcess(400, share), rows_of(*[50] * 401)
    torch.testing.assert_close(process.rate.mean().item(), share, atol=0.01, rtol=0)
    t = torch.arange(401)
    chance = torch.rand(rows.item.shape, generator=generator())
    seen = process.visible(chance, rows, t, share=0.0)
    hidden = torch.bincount(rows.row, ~seen, minlength=401) / 50
    assert (hidden - process.rate).abs().max() < 0.3
    torch.testing.assert_close(hidden.mean().item(), share, atol=0.02, rtol=0)
    assert hidden[0] == 1 / 50
    assert hidden[400] == 1


def test_masking_hides_at_least_one_of_two_items_and_none_of_one():
    process, rows = MaskingProcess(4), rows_of(1, 2, 3, 0)
    seen = process.visible(
        torch.rand(6, generator=generator()), rows, torch.zeros(4, dtype=torch.long), 0.5
    )
    assert torch.bincount(rows.row[~seen], minlength=4).tolist() == [0, 1, 1, 0]


def test_masking_weights_its_steps_by_the_inverse_rate():
    process = MaskingProcess(5, 0.25)
    weight = process.loss_weight(torch.arange(6))
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    product = weight[1:] * process.rate[1:]
    torch.testing.assert_close(product, product[0].expand(5))
    assert weight[0] == weight[1]


def test_a_masking_step_is_the_mean_over_revealed_items_of_dense_rows():
    process = MaskingProcess(4, 0.5)
    table = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    x_0 = torch.tensor([[1.0, 1.0, 1.0, 0.0, 1.0, 0.0]]).double()
    x_t = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]).double()
    for step in (4, 3, 2, 1):
        t = torch.tensor([step])
        # Each hidden item is revealed with this probability.
        chance = 1 / step
        expected = (x_t + chance * (x_0 - x_t)) @ table
        found = process.step(encoded(x_0 @ table), x_t @ table, t)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_share_outside_the_unit_interval_is_refused():
    for share in (0.0, 1.0):
        with pytest.raises(ConfigError, match="give one in"):
            MaskingProcess(4, share)


def test_flipping_inserts_items_that_the_row_lacks_in_proportion_to_the_dropped_ones():
    process, num = FlippingProcess(4, 0.5, insertion=0.5), 2000
    rows, items = rows_of(*[10] * num), torch.arange(5, 5000)
    t = torch.full((num,), 2)
    added = process.inserted(rows, t, items, generator())
    assert added.num == num
    assert (added.row.diff() >= 0).all()
    assert added.item.min() >= 10  # of the items 5 … 9 none, since all rows have them
    key = added.row * 5000 + added.item
    assert key.unique().numel() == key.numel()
    # Half of 10 items are dropped at step 2 of 4, and half of these replaced.
    assert added.item.numel() / num == pytest.approx(2.5, abs=0.15)
    assert process.inserted(rows, torch.zeros_like(t), items, generator()).item.numel() == 0


def test_without_its_ideas_a_process_does_nothing():
    plain, rows, t = RowProcess(3), rows_of(2, 1), torch.tensor([3, 1])
    chance = torch.tensor([0.4, 0.6, 0.5])
    assert plain.visible(chance, rows, t, 0.5).tolist() == [False, True, True]
    assert plain.inserted(rows, t, torch.arange(9), generator()).item.numel() == 0
    assert plain.loss_weight(t).tolist() == [1, 1]
    x = encoded(torch.ones(2, 4).double())
    assert plain.corrupt(x, t, torch.randn(2, 4)) is x.values


def test_a_combination_is_made_of_its_parts():
    schedule = DiffusionSchedule.linear(4, 0.8, 0.1)
    both = CombinedProcess(MaskingProcess(4, 0.5), GaussianProcess(schedule))
    x_0, x_t, noise = torch.randn(3, 5, 4, generator=generator(), dtype=torch.float64)
    t = torch.tensor([4, 3, 2, 1, 1])
    rows = EncodedRows(x_0, None, torch.eye(4).double()[None], torch.ones(5).double())
    torch.testing.assert_close(
        both.corrupt(rows, t, noise), GaussianProcess(schedule).corrupt(rows, t, noise)
    )
    found = both.step(rows, x_t, t)
    denoised = schedule.step(x_0, x_t, t)
    torch.testing.assert_close(found, x_t + (denoised - x_t) / t[:, None])
    torch.testing.assert_close(found[3:], x_0[3:])
    assert torch.equal(both.loss_weight(t), both.discrete.loss_weight(t))
    with pytest.raises(ConfigError, match="processes of 4 and 5 steps"):
        CombinedProcess(MaskingProcess(4), GaussianProcess(DiffusionSchedule.linear(5)))
