"""Products of a stack against numpy's in float64."""

import numpy as np
import pytest
import torch

from pipeline.heads.products import by_rows, linear


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 2e-2)]
)
def test_each_heads_product_is_numpys_also_of_slices(
    heads: int, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = torch.randn(heads, 4, 9, 33).to(dtype)[:, 1]  # a step's, between those of others
    weight = torch.randn(heads, 70, 33).to(dtype)[:, :40]
    expected = np.einsum("mri,moi->mro", inputs.double().numpy(), weight.double().numpy())
    found = by_rows(inputs, weight)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double(), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_is_numpys_also_of_slices(dtype: torch.dtype) -> None:
    inputs, weight = torch.randn(9, 33, dtype=dtype)[:, :20], torch.randn(40, 33, dtype=dtype)[:, :20]
    bias = torch.randn(40, dtype=dtype)
    expected = inputs.double().numpy() @ weight.double().numpy().T + bias.double().numpy()
    np.testing.assert_allclose(linear(inputs, weight, bias), expected, rtol=0, atol=1e-4)
