package feature_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

// Programs whose function the kernel has not are left out, all others stay, and
// the arguments of tcp_recvmsg are told.
func TestFitFunctions(t *testing.T) {
	types, err := btf.LoadKernelSpec()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("the kernel has no type information")
	}
	require.NoError(t, err)
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"stream by fexit": bpf.LoadStreamFexit, "stream by kprobe": bpf.LoadStreamKprobe,
		"dns by fexit": bpf.LoadDnsFexit, "dns by kprobe": bpf.LoadDnsKprobe, "tls": bpf.LoadTlsFexit,
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := load()
			require.NoError(t, err)
			spec := whole.Copy()
			gone := spec.Programs["sent"].Copy()
			gone.AttachTo = "vedette_has_no_such_function"
			spec.Programs["gone"] = gone
			require.NoError(t, feature.FitFunctions(spec))
			require.NotContains(t, spec.Programs, "gone")
			for name, p := range whole.Programs {
				var f *btf.Func
				hooked := p.AttachType == ebpf.AttachTraceFEntry || p.AttachType == ebpf.AttachTraceFExit || (p.Type == ebpf.Kprobe && p.AttachTo != "")
				if hooked && types.TypeByName(p.AttachTo, &f) != nil {
					require.NotContains(t, spec.Programs, name)
				} else {
					require.Contains(t, spec.Programs, name)
				}
			}
			var arguments uint32
			require.NoError(t, spec.Variables["receive_arguments"].Get(&arguments))
			require.Contains(t, []uint32{4, 5, 6}, arguments)
		})
	}
}
