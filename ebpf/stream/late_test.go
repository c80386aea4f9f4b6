package stream

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// waitRPC is the role waiter: makes a few calls, and more over the same connection
// when its standard input ends.
func waitRPC() {
	c, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	client := testgrpc.NewTestServiceClient(c)
	drive := func() error {
		for range lateCalls {
			if err := calls["small"](context.Background(), client); err != nil {
				return err
			}
		}
		return nil
	}
	if err := drive(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	if err := drive(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

const lateCalls = 100

// A connection that is older than the probe is followed. What was said before is
// not known: its calls are counted, by what is known of them.
func TestConnectionOlderThanProbe(t *testing.T) {
	addr, _ := featuretest.StartRole(t, "rpc")
	said, _, stop := featuretest.StartStoppable(t, "waiter", addr)
	require.Equal(t, "ready", said)
	reg := start(t, nil)
	stop()
	port := featuretest.PortOf(t, addr)
	for _, side := range []string{"server", "client"} {
		got := func() counts {
			all := countsOf(t, reg, "rpc_"+side+"_call_duration_seconds", port, "rpc_method", "rpc_response_status_code")
			for k, n := range countsOf(t, reg, "http_"+side+"_request_duration_seconds", port, "http_request_method", "http_response_status_code") {
				all[k] += n
			}
			return all
		}
		deadline := time.Now().Add(15 * time.Second)
		for time.Now().Before(deadline) && got().sum() < lateCalls-1 {
			<-time.After(20 * time.Millisecond)
		}
		all := got()
		require.GreaterOrEqual(t, all.sum(), uint64(lateCalls-1), "%s: %v", side, all) // the one by which it was told may be lost
		require.LessOrEqual(t, all.sum(), uint64(lateCalls), "%s: %v", side, all)
		for k := range all {
			require.Contains(t, []string{"POST 200", "_OTHER 200", "_OTHER OK", "_OTHER ", service + "UnaryCall OK"}, k)
		}
	}
}

// Connections of other protocols are left alone.
func TestForeignConnections(t *testing.T) {
	reg := start(t, nil)
	addr, _ := featuretest.StartRole(t, "server", "4")
	done, _ := featuretest.StartRole(t, "client", "http://"+addr+"/chunked", "100")
	require.Equal(t, "done", done)
	port := featuretest.PortOf(t, addr)
	for _, metric := range []string{"http_server_request", "rpc_server_call", "db_server_operation", "messaging_server_operation"} {
		require.Empty(t, countsOf(t, reg, metric+"_duration_seconds", port))
	}
}
