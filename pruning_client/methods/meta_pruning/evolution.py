"""Allocator D as published: an evolutionary search over encodings within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruning_client.errors import UsageError
from pruning_client.methods.meta_pruning.encodings import Candidates, Encoding

#: Fitness of the candidates of a generation, given its number from 0; higher is better.
Judge = Callable[[int, Sequence[Encoding]], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of the evolutionary search; the defaults are those of the published code."""

    #: Number of generations of the search.
    generations: int = 20
    #: Number of candidates in each generation.
    population: int = 50
    #: Number of the best candidates so far that mutate and cross.
    parents: int = 10
    #: Number of candidates of a generation that are mutated parents.
    mutations: int = 25
    #: Number of candidates of a generation that are crossed parents; the rest are random.
    crossovers: int = 25
    #: Probability that a mutation redraws a gene.
    mutation_rate: float = 0.1

    def __post_init__(self) -> None:
        """Check that the search can be done.

        Raises:
            UsageError: A number is too small, or a generation has more children than places.
        """
        if min(self.generations, self.population, self.parents) < 1:
            raise UsageError(
                "A search without a generation, a candidate or a parent finds nothing.",
                "Give `generations`, `population` and `parents` of at least 1.",
            )
        if self.mutations + self.crossovers > self.population:
            raise UsageError(
                f"{self.mutations} mutations and {self.crossovers} crossovers are more than a "
                f"population of {self.population}.",
                "Raise `population`, or lower `mutations` or `crossovers`.",
            )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A candidate and its fitness."""

    encoding: Encoding
    fitness: float


def evolve(candidates: Candidates, judge: Judge, options: SearchOptions) -> Judged:
    """The best candidate of all generations.

    The first generation is random. Each later one consists of mutations and crossovers of the best
    candidates so far; random candidates take the places for which no new child within the budget is
    found. The search ends early when there are no new candidates.
    """
    best: list[Judged] = []
    born = candidates.random(options.population)
    for generation in range(options.generations):
        if not born:
            break
        judged = [
            Judged(encoding=encoding, fitness=fitness)
            for encoding, fitness in zip(born, judge(generation, born), strict=True)
        ]
        best = sorted([*best, *judged], key=lambda one: -one.fitness)[: options.parents]
        if generation + 1 < options.generations:
            born = _children(candidates, [one.encoding for one in best], options)
    return best[0]


def _children(
    candidates: Candidates, parents: Sequence[Encoding], options: SearchOptions
) -> list[Encoding]:
    mutated = candidates.mutated(parents, options.mutations, options.mutation_rate)
    crossed = candidates.crossed(parents, options.crossovers)
    random = candidates.random(options.population - len(mutated) - len(crossed))
    return [*mutated, *crossed, *random]
