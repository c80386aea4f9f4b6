package identity

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIntroduce(t *testing.T) {
	proc := t.TempDir()
	r := New(proc, nil)
	gone := Key{PID: 10, StartNanos: 1000}
	r.Introduce(gone, Facts{
		Executable: "python3.11", Args: []string{"python3", "-m", "shop"}, Groups: []string{"/", "/docker/" + id},
		Environ: []string{"A=b", "OTEL_RESOURCE_ATTRIBUTES=service.namespace=eu"},
	})
	p := r.Resolve(gone, "python3")
	require.Equal(t, "shop", p.Service)
	require.Equal(t, "eu", p.Namespace)
	require.Equal(t, "python3.11", p.Executable)
	require.Equal(t, id, p.ContainerID)

	child := Key{PID: 11, StartNanos: 2000}
	r.Inherit(child, gone)
	p = r.Resolve(child, "worker")
	require.Equal(t, "shop", p.Service)
	require.Equal(t, child, p.Key)

	// Another program begins in the child.
	r.Introduce(child, Facts{Executable: "true", Groups: []string{"/"}})
	require.Equal(t, "true", r.Resolve(child, "true").Service)

	// Partial facts are for processes that are gone; others are read.
	fake(t, proc, 12, 300, "/usr/bin/java", "0::/\n", []string{"java", "-jar", "/srv/api.jar"}, nil)
	r.Introduce(Key{PID: 12, StartNanos: 300 * 10_000_000}, Facts{Executable: "java", Args: []string{"java"}, Partial: true})
	require.Equal(t, "api", r.Resolve(Key{PID: 12, StartNanos: 300 * 10_000_000}, "").Service)
	require.NoError(t, os.RemoveAll(proc+"/12"))
	late := Key{PID: 12, StartNanos: 301 * 10_000_000}
	r.Introduce(late, Facts{Executable: "java", Args: []string{"java"}, Partial: true})
	require.Equal(t, "java", r.Resolve(late, "").Service)

	// An unknown parent names nobody.
	r.Inherit(Key{PID: 13}, Key{PID: 99})
	require.Equal(t, "thread", r.Resolve(Key{PID: 13}, "thread").Service)
}
