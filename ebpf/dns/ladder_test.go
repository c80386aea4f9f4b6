package dns

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// Every way that this kernel can load pairs all lookups: over IPv4 and IPv6, with
// Go's resolver, over TCP after UDP, and over sockets that are not connected.
func TestWays(t *testing.T) {
	for i, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			require.Equal(t, i > 0, w.lacks != "")
			for _, host := range []string{"127.0.0.1", "::1"} {
				addr, _ := featuretest.StartRole(t, "nameserver", host)
				reg := start(t, portOf(t, addr), nil, w.name)
				for _, role := range []string{"resolver", "unconnected"} {
					line, _ := featuretest.StartRole(t, role, addr, "a.example.com.", "nx.example.com.", "big.example.com.")
					require.Equal(t, "done", line)
				}
				for _, metric := range []string{asked, answered} {
					requireLookups(t, reg, metric, map[string]string{"dns_response_code": "NOERROR"}, 2+1+2)
					requireLookups(t, reg, metric, map[string]string{"dns_response_code": "NXDOMAIN"}, 2)
				}
				requireNothingLost(t, reg)
			}
		})
	}
}
