package order_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/spinecert/spinecert/internal/order"
)

type pair struct{ key, place int }

// TestOrder: the result is that of the standard library.
func TestOrder(t *testing.T) {
	byKey := func(a, b pair) int { return cmp.Compare(a.key, b.key) }
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	for _, n := range []int{0, 1, 2, 13, 300} {
		var in []pair
		for i := range n {
			in = append(in, pair{random.IntN(20), i})
		}
		want, stable, sorted := slices.Clone(in), slices.Clone(in), slices.Clone(in)
		slices.SortStableFunc(want, byKey)
		order.Stable(stable, byKey)
		order.Sort(sorted, byKey)
		if !slices.Equal(stable, want) {
			t.Errorf("%d elements, stable: %v", n, stable)
		}
		if !slices.IsSortedFunc(sorted, byKey) {
			t.Errorf("%d elements: %v", n, sorted)
		}
	}
}
