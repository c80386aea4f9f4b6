package http1

import (
	"testing"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// Two agents on one host see the same, and one that ends takes nothing from the other.
func TestHTTPTwoAgents(t *testing.T) {
	first := start(t, nil)
	var port string
	want := make(counts)
	ask := func(t *testing.T, addr string) {
		c := featuretest.NewClient(t, false)
		for range 50 {
			featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
		}
		want["GET 200"] += 50
	}
	addr, _ := featuretest.StartRole(t, "server", "4")
	port = featuretest.PortOf(t, addr)
	t.Run("both", func(t *testing.T) {
		second := start(t, nil)
		before := countsOn(t, second, "server", port)
		ask(t, addr)
		requireCounts(t, first, "server", port, want)
		before["GET 200"] += 50
		requireCounts(t, second, "server", port, before)
	})
	ask(t, addr)
	requireCounts(t, first, "server", port, want)
}
