package main

import (
	"math"
	"slices"
)

// present returns the values that are not NaN, sorted.
func present(values []float64) []float64 {
	out := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(out)
	return out
}

// median returns the middle value, the mean of the two middle ones, or NaN.
func median(values []float64) float64 {
	v := present(values)
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// quantile returns the smallest value that a share q of all values does not
// exceed (nearest rank), or NaN.
func quantile(values []float64, q float64) float64 {
	v := present(values)
	if len(v) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(q * float64(len(v))))
	return v[min(max(rank, 1), len(v))-1]
}

// ratios divides round by round, so that a slow round of a busy machine weighs
// on both sides.
func ratios(of, to []float64) []float64 {
	out := make([]float64, min(len(of), len(to)))
	for i := range out {
		out[i] = of[i] / to[i] // NaN if either is
	}
	return out
}
