import torch

from graphdiff.nn.dropout import dropout


def test_entries_are_dropped_or_scaled():
    x = torch.rand(200, 50) + 1
    out = dropout(x, 0.25, torch.Generator().manual_seed(0))
    kept = out != 0
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    assert abs(kept.float().mean() - 0.75) < 0.02


def test_only_the_given_generator_is_read():
    x, state = torch.ones(9, 9), torch.get_rng_state()
    drawn = [dropout(x, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_dropped_at_zero():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    x = torch.randn(3, 4)
    assert dropout(x, 0.0, generator) is x
    assert torch.equal(generator.get_state(), state)
