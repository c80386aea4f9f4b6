package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	kafkago "github.com/segmentio/kafka-go"
)

// deal is what the leader says about its work to every member, as the
// assignments' user data. It outlives the leader: a static member that comes
// back is given its assignment without a new round.
type deal struct {
	// Moving means that another round follows: partitions wait for their owners to
	// give them up.
	Moving bool `json:"moving,omitempty"`

	// Partitions that the topics had.
	Partitions map[string]int `json:"partitions,omitempty"`
}

// decodeDeal takes what it does not understand for nothing.
func decodeDeal(userData []byte) deal {
	var d deal
	if json.Unmarshal(userData, &d) != nil {
		return deal{}
	}
	return d
}

// assignments deals out the partitions of every topic that members read.
func (m *member) assignments(ctx context.Context, members []kafkago.JoinGroupResponseMember) ([]kafkago.SyncGroupRequestAssignment, error) {
	readers := map[string][]candidate{}
	for _, o := range members {
		for _, topic := range o.Metadata.Topics {
			readers[topic] = append(readers[topic], candidate{id: o.ID, owned: o.Metadata.OwnedPartitions[topic]})
		}
	}
	dealt := map[string]map[string][]int{} // member, topic
	d := deal{Partitions: map[string]int{}}
	for topic, candidates := range readers {
		n, err := m.b.countPartitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		d.Partitions[topic] = n
		result, moving := assign(candidates, n)
		d.Moving = d.Moving || moving
		for id, partitions := range result {
			if dealt[id] == nil {
				dealt[id] = map[string][]int{}
			}
			dealt[id][topic] = partitions
		}
	}
	note, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var out []kafkago.SyncGroupRequestAssignment
	for _, o := range members {
		out = append(out, kafkago.SyncGroupRequestAssignment{
			MemberID:   o.ID,
			Assignment: kafkago.GroupProtocolAssignment{AssignedPartitions: dealt[o.ID], UserData: note},
		})
	}
	return out, nil
}

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
