package stream

import (
	"context"
	"fmt"
	"io"
	"net"
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
		featuretest.Await(func() uint64 { return got().sum() }, lateCalls-1)
		all := got()
		require.GreaterOrEqual(t, all.sum(), uint64(lateCalls-1), "%s: %v", side, all) // the one by which it was told may be lost
		require.LessOrEqual(t, all.sum(), uint64(lateCalls), "%s: %v", side, all)
		for k := range all {
			require.Contains(t, []string{"POST 200", "_OTHER 200", "_OTHER OK", "_OTHER ", service + "UnaryCall OK"}, k)
		}
	}
}

// turnToTLS is the role upgrade: a connection that is PostgreSQL's until both ends
// agree on TLS.
func turnToTLS() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	record := append([]byte{0x16, 3, 1, 0, 95}, make([]byte, 95)...)
	serve := func() error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		b := make([]byte, len(record))
		if _, err := io.ReadFull(c, b[:8]); err != nil {
			return err
		}
		if _, err := c.Write([]byte("S")); err != nil {
			return err
		}
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return err
			}
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
	}
	go serve()
	said := l.Addr().String()
	c, err := net.Dial("tcp", said)
	for _, ask := range [][]byte{{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}, record, record, record} {
		if err == nil {
			_, err = c.Write(ask)
		}
		if err == nil {
			_, err = c.Read(make([]byte, 100))
		}
	}
	if err != nil {
		said = err.Error()
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

// A connection that turns to TLS is forgotten, while it is still open.
func TestConnectionTurnsToTLS(t *testing.T) {
	f := New(roomy(), bounds())
	featuretest.Start(t, f, nil)
	addr, _ := featuretest.StartRole(t, "upgrade")
	rpc, _ := featuretest.StartRole(t, "rpc")
	done, _ := featuretest.StartRole(t, "caller", rpc, "empty", "10", "1")
	require.Equal(t, "done", done)
	ends := func(addr string) (n int) {
		f.table.mu.Lock()
		defer f.table.mu.Unlock()
		for _, c := range f.table.conns {
			if c.Local.String() == addr || c.Peer.String() == addr {
				n++
			}
		}
		return n
	}
	// what is later in the ring has been read
	require.Eventually(t, func() bool { return ends(rpc) == 2 }, time.Minute, 10*time.Millisecond)
	require.Zero(t, ends(addr))
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
