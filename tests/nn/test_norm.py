import pytest
import torch

from graphdiff.nn.norm import layer_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_with_and_without_a_gradient_as_pytorch(dtype):
    x = 3 + 5 * torch.randn(2, 7, 16, dtype=dtype, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.layer_norm(x, [16])
    torch.testing.assert_close(layer_norm(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer_norm(x), expected)


def test_a_row_of_one_value_is_zero():
    x = torch.full((2, 4), 3.0)
    with torch.no_grad():
        assert layer_norm(x).eq(0).all()
