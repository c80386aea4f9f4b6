package kafka

import (
	"cmp"
	"slices"
)

// candidate is a member as the group's leader sees it.
type candidate struct {
	id    string
	owned []int // partitions that it holds now
}

// assign deals the partitions 0 to n-1 of a topic to members, evenly, so that
// as few as possible change hands. A partition that has to is given to nobody
// yet, and moving is true: its owner sees that it lacks it, gives it up and asks
// for another round, in which it is free.
func assign(members []candidate, n int) (result map[string][]int, moving bool) {
	result = make(map[string][]int, len(members))
	if len(members) == 0 {
		return result, false
	}
	owner := make([]int, n) // index of the member, -1 if it is free
	for i := range owner {
		owner[i] = -1
	}
	members = slices.Clone(members)
	// Those who hold most are the first to be allowed one more than the others.
	slices.SortFunc(members, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(len(b.owned), len(a.owned)), cmp.Compare(a.id, b.id))
	})
	for i, m := range members {
		for _, p := range m.owned {
			if p >= 0 && p < n && owner[p] < 0 {
				owner[p] = i
			}
		}
	}
	base, extra := n/len(members), n%len(members)
	quota := make([]int, len(members))
	for i := range members {
		quota[i] = base
		if i < extra {
			quota[i]++
		}
	}
	for p, i := range owner {
		if i < 0 {
			continue
		}
		if id := members[i].id; len(result[id]) < quota[i] {
			result[id] = append(result[id], p)
		} else {
			moving = true
		}
	}
	i := 0
	for p := range owner {
		if owner[p] >= 0 {
			continue
		}
		for i < len(members) && len(result[members[i].id]) >= quota[i] {
			i++
		}
		if i == len(members) {
			break
		}
		result[members[i].id] = append(result[members[i].id], p)
	}
	for _, parts := range result {
		slices.Sort(parts)
	}
	return result, moving
}
