package block

// Source is a range of a log's offsets whose data is in a block.
type Source struct {
	Source    string `json:"source"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"` // exclusive
}

// SourceKey names a partition of a log.
type SourceKey struct {
	Source    string
	Topic     string
	Partition int32
}

// Key returns the partition.
func (s Source) Key() SourceKey { return SourceKey{s.Source, s.Topic, s.Partition} }

// Range returns offsets of the partition, from inclusive, to exclusive.
func (k SourceKey) Range(from, to int64) Source {
	return Source{k.Source, k.Topic, k.Partition, from, to}
}

// AddSource widens the range of a partition to hold s, too.
func AddSource(list []Source, s Source) []Source {
	for i := range list {
		if list[i].Key() == s.Key() {
			list[i].From = min(list[i].From, s.From)
			list[i].To = max(list[i].To, s.To)
			return list
		}
	}
	return append(list, s)
}
