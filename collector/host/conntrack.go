package host

import (
	"errors"
	"io/fs"

	"github.com/prometheus/procfs"
)

func openConntrack(s *sources) func(*batch) error {
	var r reader
	entries := gauge("node_nf_conntrack_entries", "Number of currently allocated flow entries for connection tracking.")
	limit := gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.")
	stats := []struct {
		family *family
		value  func(procfs.ConntrackStatEntry) uint64
	}{
		{gauge("node_nf_conntrack_stat_found", "Number of searched entries which were successful."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.Found }},
		{gauge("node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.Invalid }},
		{gauge("node_nf_conntrack_stat_ignore", "Number of packets seen which are already connected to a conntrack entry."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.Ignore }},
		{gauge("node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.Insert }},
		{gauge("node_nf_conntrack_stat_insert_failed", "Number of entries for which list insertion was attempted but failed."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.InsertFailed }},
		{gauge("node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.Drop }},
		{gauge("node_nf_conntrack_stat_early_drop", "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.EarlyDrop }},
		{gauge("node_nf_conntrack_stat_search_restart", "Number of conntrack table lookups which had to be restarted due to hashtable resizes."),
			func(e procfs.ConntrackStatEntry) uint64 { return e.SearchRestart }},
	}
	return func(b *batch) error {
		n, ok := r.number(s.proc("sys/net/netfilter/nf_conntrack_count"))
		if !ok {
			return errNoData
		}
		b.add(entries, n)
		if n, ok = r.number(s.proc("sys/net/netfilter/nf_conntrack_max")); ok {
			b.add(limit, n)
		}
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		cpus, err := proc.ConntrackStat()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, st := range stats {
			sum := uint64(0)
			for _, e := range cpus {
				sum += st.value(e)
			}
			b.add(st.family, float64(sum))
		}
		return nil
	}
}
