"""Sizes split into factors, ranks within what a cut can have, and cores that are the matrix they stand for."""

import math

import numpy
import pytest
import torch

from peft_eval.methods.tensor_train import TensorTrain, factors_of, train_ranks


@pytest.mark.parametrize("size", [1, 2, 5, 8, 64, 97, 768, 2 * 97, 4096, 11008, 5120, 8191, 14336])
def test_factors_multiply_to_the_size_and_none_could_join_another(size):
    factors = factors_of(size)
    assert math.prod(factors) == size
    for factor in factors:
        assert factor <= 8 or all(factor % divisor for divisor in range(2, factor))  # small, or a prime
    smallest = sorted(factors)[:2]
    assert len(factors) == 1 or math.prod(smallest) > 8


def test_ranks_are_what_a_cut_can_have():
    assert train_ranks([8, 8, 8], 5) == [1, 5, 5, 1]
    assert train_ranks([2, 8, 8], 5) == [1, 2, 5, 1]
    assert train_ranks([8, 8, 3], 5) == [1, 5, 3, 1]
    assert train_ranks([7], 5) == [1, 1]


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 8), (8, 48), (97, 4), (6, 10)])
def test_the_dense_form_is_the_sum_over_the_bonds(inputs, outputs):
    """M[o, i] is the product of the cores' slices at the digits of i and o, restated in numpy."""
    torch.manual_seed(0)
    train = TensorTrain(inputs, outputs, 3)
    cores = [core.detach().double().numpy() for core in train.cores()]
    sizes = train.shape
    split = len(factors_of(inputs))
    expected = numpy.zeros((outputs, inputs))
    for row in range(outputs):
        for column in range(inputs):
            digits = [
                *numpy.unravel_index(column, sizes[:split]),
                *numpy.unravel_index(row, sizes[split:]),
            ]
            product = numpy.eye(1)
            for core, digit in zip(cores, digits, strict=True):
                product = product @ core[:, digit, :]
            expected[row, column] = product[0, 0]
    assert numpy.abs(train.dense().detach().numpy() - expected).max() < 1e-6


def test_the_start_has_the_authors_spread_or_is_zero():
    torch.manual_seed(0)
    train = TensorTrain(512, 64, 5)
    order = len(train.shape)
    for core in train.cores():
        expected = (1 / (512 + 64)) ** (0.5 / order) / math.sqrt(core.shape[2])
        assert core.std().item() == pytest.approx(expected, rel=0.35)
    assert not TensorTrain(64, 8, 5, zero=True).dense().any()
    assert train.dense().any()


def test_a_train_is_small():
    train = TensorTrain(4096, 8, 5)
    assert sum(core.numel() for core in train.parameters()) < 1_000 < 4096 * 8
