package stream

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"rpc": serveRPC, "caller": callRPC, "h2c": serveH2C, "fetcher": fetchH2C, "waiter": waitRPC, "database": askDatabase, "agent": watchAll, "bytes": serveBytes, "upgrade": turnToTLS, "apart": apart, "babel": babble, "early": endEarly})
}

func bounds() []float64 {
	return []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
}

func start(t testing.TB, edit func(*feature.Environment)) *prometheus.Registry {
	t.Helper()
	return featuretest.Start(t, New(roomy(), bounds()), edit)
}

// roomy has a ring for all that happens on a machine that runs other tests, too,
// and leaves little time to this one.
func roomy() Config {
	c := DefaultConfig()
	c.RingBytes = 64 << 20
	return c
}

// counts of requests by what a test tells them by.
type counts map[string]uint64

func (c counts) sum() (n uint64) {
	for v := range maps.Values(c) {
		n += v
	}
	return n
}

// countsOf reads a histogram's counts on a port, by the values of some labels.
func countsOf(t testing.TB, reg *prometheus.Registry, metric, port string, labels ...string) counts {
	t.Helper()
	got := make(counts)
	for _, m := range featuretest.Family(t, reg, metric, map[string]string{"server_port": port}) {
		key := ""
		for i, l := range labels {
			if i > 0 {
				key += " "
			}
			key += featuretest.Label(m, l)
		}
		got[key] += m.Histogram.GetSampleCount()
	}
	return got
}

// requireCounts waits until as many are counted as wanted, and wants them to be
// the right ones.
func requireCounts(t testing.TB, reg *prometheus.Registry, want counts, metric, port string, labels ...string) {
	t.Helper()
	featuretest.Await(func() uint64 { return countsOf(t, reg, metric, port, labels...).sum() }, want.sum())
	if got := countsOf(t, reg, metric, port, labels...); !maps.Equal(got, want) {
		for _, m := range featuretest.Family(t, reg, "vedette_ebpf_stream_lost_total", nil) {
			if v := m.Counter.GetValue(); v > 0 {
				t.Logf("lost: %s %v", featuretest.Label(m, "reason"), v)
			}
		}
		t.Fatalf("%s: got %v, want %v", metric, got, want)
	}
}

const service = "grpc.testing.TestService/"

func rpcCounts(t testing.TB, reg *prometheus.Registry, side, port string, want counts) {
	t.Helper()
	requireCounts(t, reg, want, "rpc_"+side+"_call_duration_seconds", port, "rpc_method", "rpc_response_status_code")
}

// rpcServer is the role rpc.
type rpcServer struct {
	testgrpc.UnimplementedTestServiceServer
}

func (rpcServer) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, nil
}

// UnaryCall fails as asked to, and answers with as much as asked for.
func (rpcServer) UnaryCall(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if s := r.GetResponseStatus(); s.GetCode() != 0 {
		return nil, status.Error(codes.Code(s.GetCode()), s.GetMessage())
	}
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, r.GetResponseSize())}}, nil
}

func (rpcServer) StreamingOutputCall(r *testgrpc.StreamingOutputCallRequest, s grpc.ServerStreamingServer[testgrpc.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (rpcServer) StreamingInputCall(s grpc.ClientStreamingServer[testgrpc.StreamingInputCallRequest, testgrpc.StreamingInputCallResponse]) error {
	var n int32
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		n += int32(len(r.GetPayload().GetBody()))
	}
}

func (rpcServer) FullDuplexCall(s grpc.BidiStreamingServer[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse]) error {
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

// serveRPC is the role rpc: a gRPC server, until its standard input ends.
func serveRPC() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	testgrpc.RegisterTestServiceServer(s, rpcServer{})
	go s.Serve(l)
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	s.Stop()
}

// calls are what a caller may do, by name.
var calls = map[string]func(context.Context, testgrpc.TestServiceClient) error{
	"empty": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		_, err := c.EmptyCall(ctx, &testgrpc.Empty{})
		return err
	},
	"small": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 100, Payload: &testgrpc.Payload{Body: make([]byte, 100)}})
		return err
	},
	"large": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 3 << 20, Payload: &testgrpc.Payload{Body: make([]byte, 3<<20)}})
		return err
	},
	"missing": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		return failsWith(codes.NotFound, unaryError(ctx, c, codes.NotFound))
	},
	"internal": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		return failsWith(codes.Internal, unaryError(ctx, c, codes.Internal))
	},
	"unimplemented": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		_, err := c.UnimplementedCall(ctx, &testgrpc.Empty{})
		return failsWith(codes.Unimplemented, err)
	},
	"cancelled": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := c.FullDuplexCall(ctx)
		if err == nil {
			err = s.Send(&testgrpc.StreamingOutputCallRequest{})
		}
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			return err
		}
		cancel()
		_, err = s.Recv()
		return failsWith(codes.Canceled, err)
	},
	"down": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		r := &testgrpc.StreamingOutputCallRequest{}
		for i := range 20 {
			r.ResponseParameters = append(r.ResponseParameters, &testgrpc.ResponseParameters{Size: int32(i * 1000)})
		}
		s, err := c.StreamingOutputCall(ctx, r)
		for err == nil {
			_, err = s.Recv()
		}
		return notEOF(err)
	},
	"up": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		s, err := c.StreamingInputCall(ctx)
		for i := 0; i < 20 && err == nil; i++ {
			err = s.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, i*1000)}})
		}
		if err == nil {
			_, err = s.CloseAndRecv()
		}
		return err
	},
	"both": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		s, err := c.FullDuplexCall(ctx)
		for i := 0; i < 20 && err == nil; i++ {
			if err = s.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, i*100)}}); err == nil {
				_, err = s.Recv()
			}
		}
		if err == nil {
			err = s.CloseSend()
		}
		for err == nil {
			_, err = s.Recv()
		}
		return notEOF(err)
	},
}

func unaryError(ctx context.Context, c testgrpc.TestServiceClient, code codes.Code) error {
	_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(code), Message: "as asked: ü"}})
	return err
}

func failsWith(want codes.Code, err error) error {
	if got := status.Code(err); got != want {
		return fmt.Errorf("got %v, want %v", err, want)
	}
	return nil
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// callRPC is the role caller: makes calls of one kind, so many by so many
// goroutines at a time over so many connections.
func callRPC() {
	addr, kind := os.Args[1], os.Args[2]
	n, _ := strconv.Atoi(os.Args[3])
	workers, _ := strconv.Atoi(os.Args[4])
	said := "done"
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		said = err.Error()
	} else {
		client := testgrpc.NewTestServiceClient(c)
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range workers {
			wg.Go(func() {
				for range n / workers {
					if err := calls[kind](context.Background(), client); err != nil {
						mu.Lock()
						said = err.Error()
						mu.Unlock()
						return
					}
				}
			})
		}
		wg.Wait()
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
	if c != nil {
		c.Close()
	}
}

func TestRPC(t *testing.T) {
	for _, tc := range []struct {
		kind       string
		n, workers int
		method     string
		status     string
	}{
		{"empty", 300, 1, "EmptyCall", "OK"},
		{"small", 500, 1, "UnaryCall", "OK"},
		{"small", 5000, 50, "UnaryCall", "OK"},
		{"large", 6, 2, "UnaryCall", "OK"},
		{"missing", 100, 10, "UnaryCall", "NOT_FOUND"},
		{"internal", 100, 1, "UnaryCall", "INTERNAL"},
		{"unimplemented", 50, 5, "UnimplementedCall", "UNIMPLEMENTED"},
		{"cancelled", 100, 10, "FullDuplexCall", "CANCELLED"},
		{"down", 100, 10, "StreamingOutputCall", "OK"},
		{"up", 100, 10, "StreamingInputCall", "OK"},
		{"both", 100, 10, "FullDuplexCall", "OK"},
	} {
		t.Run(fmt.Sprintf("%s by %d", tc.kind, tc.workers), func(t *testing.T) {
			reg := start(t, nil) // the system may give a port again
			addr, _ := featuretest.StartRole(t, "rpc")
			done, _ := featuretest.StartRole(t, "caller", addr, tc.kind, strconv.Itoa(tc.n), strconv.Itoa(tc.workers))
			require.Equal(t, "done", done)
			port := featuretest.PortOf(t, addr)
			want := counts{service + tc.method + " " + tc.status: uint64(tc.n)}
			rpcCounts(t, reg, "server", port, want)
			rpcCounts(t, reg, "client", port, want)
		})
	}
}

// serveH2C is the role h2c: Go's HTTP server without TLS, until its standard input
// ends.
func serveH2C() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		if code == 200 {
			w.Write(make([]byte, 5000))
		}
	})
	s := &http.Server{Handler: mux, Protocols: h2cOnly()}
	go s.Serve(l)
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	s.Close()
}

func h2cOnly() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// fetchH2C is the role fetcher: so many requests for each status.
func fetchH2C() {
	n, _ := strconv.Atoi(os.Args[2])
	c := &http.Client{Transport: &http.Transport{Protocols: h2cOnly()}}
	said := "done"
	var wg sync.WaitGroup
	for _, code := range []string{"200", "404", "500"} {
		wg.Go(func() {
			for range n {
				resp, err := c.Post("http://"+os.Args[1]+"/status/"+code+"?secret=1", "text/plain", io.LimitReader(zeros{}, 3000))
				if err != nil {
					said = err.Error()
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestH2C(t *testing.T) {
	reg := start(t, nil)
	addr, _ := featuretest.StartRole(t, "h2c")
	done, _ := featuretest.StartRole(t, "fetcher", addr, "200")
	require.Equal(t, "done", done)
	port := featuretest.PortOf(t, addr)
	for _, side := range []string{"server", "client"} {
		requireCounts(t, reg, counts{"POST 200 2": 200, "POST 404 2": 200, "POST 500 2": 200}, "http_"+side+"_request_duration_seconds", port,
			"http_request_method", "http_response_status_code", "network_protocol_version")
		m := featuretest.Family(t, reg, "http_"+side+"_response_body_size_bytes", map[string]string{"server_port": port, "http_response_status_code": "200"})
		require.Len(t, m, 1)
		require.EqualValues(t, 200*5000, m[0].Histogram.GetSampleSum())
		m = featuretest.Family(t, reg, "http_"+side+"_request_body_size_bytes", map[string]string{"server_port": port, "http_response_status_code": "404"})
		require.Len(t, m, 1)
		require.EqualValues(t, 200*3000, m[0].Histogram.GetSampleSum())
	}
}
