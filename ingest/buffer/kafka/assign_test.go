package kafka

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAssign(t *testing.T) {
	tests := []struct {
		name    string
		members []candidate
		n       int
		want    map[string][]int
		moving  bool
	}{
		{"nobody", nil, 3, map[string][]int{}, false},
		{"one", []candidate{{"a", nil}}, 3, map[string][]int{"a": {0, 1, 2}}, false},
		{"two at once", []candidate{{"b", nil}, {"a", nil}}, 3, map[string][]int{"a": {0, 1}, "b": {2}}, false},
		{"second joins", []candidate{{"a", []int{0, 1, 2, 3}}, {"b", nil}}, 4, map[string][]int{"a": {0, 1}}, true},
		{"second joins, next round", []candidate{{"a", []int{0, 1}}, {"b", nil}}, 4, map[string][]int{"a": {0, 1}, "b": {2, 3}}, false},
		{"one has left", []candidate{{"b", []int{2, 3}}}, 4, map[string][]int{"b": {0, 1, 2, 3}}, false},
		{"more members than partitions", []candidate{{"a", []int{1}}, {"b", nil}, {"c", []int{0}}}, 2, map[string][]int{"a": {1}, "c": {0}}, false},
		{"topic has grown", []candidate{{"a", []int{0}}, {"b", []int{1}}}, 4, map[string][]int{"a": {0, 2}, "b": {1, 3}}, false},
		{"claimed twice", []candidate{{"a", []int{0, 1}}, {"b", []int{1}}}, 2, map[string][]int{"a": {0}}, true},
		{"not there", []candidate{{"a", []int{7, -1}}}, 1, map[string][]int{"a": {0}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, moving := assign(tt.members, tt.n)
			if moving != tt.moving {
				t.Errorf("moving is %t", moving)
			}
			for id, partitions := range got {
				if len(partitions) == 0 {
					delete(got, id)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestAssignSettles lets members come and go: every partition has at most one
// owner in every round, and after two rounds exactly one, evenly.
func TestAssignSettles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	owned := map[string][]int{}
	n, born := 1, 0
	for step := range 2000 {
		switch {
		case len(owned) == 0 || rng.IntN(3) == 0:
			born++
			owned[fmt.Sprintf("m%d-%d", rng.IntN(1000), born)] = nil
		case len(owned) > 1 && rng.IntN(2) == 0:
			for id := range owned {
				delete(owned, id)
				break
			}
		default:
			n += rng.IntN(3)
		}
		for round := range 2 {
			var members []candidate
			for id, partitions := range owned {
				members = append(members, candidate{id, partitions})
			}
			got, moving := assign(members, n)
			if round == 1 && moving {
				t.Fatalf("step %d: partitions move in the second round", step)
			}
			owners := map[int]string{}
			for id, partitions := range owned {
				for _, p := range partitions {
					if slices.Contains(got[id], p) {
						owners[p] = id
					}
				}
			}
			held := map[int]string{}
			for id, partitions := range owned {
				for _, p := range partitions {
					held[p] = id
				}
			}
			for id, partitions := range got {
				for _, p := range partitions {
					if o, ok := held[p]; ok && o != id {
						t.Fatalf("step %d: partition %d goes from %s to %s in one round", step, p, o, id)
					}
					if o, ok := owners[p]; ok && o != id {
						t.Fatalf("step %d: partition %d has owners %s and %s", step, p, o, id)
					}
					owners[p] = id
				}
			}
			for id := range owned {
				owned[id] = got[id]
			}
		}
		total, least, most := 0, n, 0
		for _, partitions := range owned {
			total += len(partitions)
			least, most = min(least, len(partitions)), max(most, len(partitions))
		}
		if total != n || most-least > 1 {
			t.Fatalf("step %d: %d of %d partitions are assigned, %d to %d per member", step, total, n, least, most)
		}
	}
}
