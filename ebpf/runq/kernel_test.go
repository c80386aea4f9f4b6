package runq

import (
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// kernel has these members of bpf_local_storage_map, and an allocator without locks
// or not.
type kernel struct {
	members []string
	nolock  bool
}

func (k kernel) TypeByName(_ string, typ any) error {
	switch t := typ.(type) {
	case **btf.Struct:
		*t = new(btf.Struct)
		for _, name := range k.members {
			(*t).Members = append((*t).Members, btf.Member{Name: name})
		}
		return nil
	case **btf.Func:
		if k.nolock {
			return nil
		}
	}
	return btf.ErrNotFound
}

// Kernels where the program could stop a processor are left alone.
func TestAllocatesWhileSwitching(t *testing.T) {
	require.False(t, allocatesWhileSwitching(kernel{members: []string{"map", "buckets"}}), "6.1")
	require.True(t, allocatesWhileSwitching(kernel{members: []string{"map", "buckets", "selem_ma"}}), "6.4")
	require.True(t, allocatesWhileSwitching(kernel{members: []string{"map"}, nolock: true}), "later ones")
}
