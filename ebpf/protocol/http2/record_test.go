package http2

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// piece is one that was recorded.
type piece struct {
	direction protocol.Direction
	seq       uint32
	data      []byte
}

// tap records what goes through a connection.
type tap struct {
	net.Conn

	mu     sync.Mutex
	pieces []piece // under mu
	seq    [2]uint32
}

func (t *tap) note(d protocol.Direction, b []byte) {
	if len(b) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pieces = append(t.pieces, piece{d, t.seq[d], append([]byte(nil), b...)})
	t.seq[d] += uint32(len(b))
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.note(protocol.Received, b[:n])
	return n, err
}

// Write notes before it writes, as an answer may be read before Write returns.
func (t *tap) Write(b []byte) (int, error) {
	t.note(protocol.Sent, b)
	return t.Conn.Write(b)
}

// one is a listener of one connection.
type one struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *one) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

type service struct {
	testgrpc.UnimplementedTestServiceServer
}

func (service) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, nil
}

func (service) UnaryCall(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if s := r.GetResponseStatus(); s.GetCode() != 0 {
		return nil, status.Error(codes.Code(s.GetCode()), s.GetMessage())
	}
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, r.GetResponseSize())}}, nil
}

func (service) FullDuplexCall(s grpc.BidiStreamingServer[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse]) error {
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

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// record gives what both ends of a connection between a gRPC client and a gRPC
// server saw of drive.
func record(t testing.TB, drive func(ctx context.Context, c testgrpc.TestServiceClient)) (client, server []piece) {
	t.Helper()
	near, far := net.Pipe()
	atClient, atServer := &tap{Conn: near}, &tap{Conn: far}
	l := &one{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- atServer
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, service{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	c, err := grpc.NewClient("passthrough:pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return atClient, nil }))
	require.NoError(t, err)
	drive(metadata.AppendToOutgoingContext(context.Background(), "traceparent", trace), testgrpc.NewTestServiceClient(c))
	require.NoError(t, c.Close())
	s.Stop()
	wg.Wait()
	return atClient.pieces, atServer.pieces
}

// mixed calls all that the service has, some with errors.
func mixed(t testing.TB) func(context.Context, testgrpc.TestServiceClient) {
	return func(ctx context.Context, c testgrpc.TestServiceClient) {
		for i := range 20 {
			_, err := c.EmptyCall(ctx, &testgrpc.Empty{})
			require.NoError(t, err)
			_, err = c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: int32(i * 5000), Payload: &testgrpc.Payload{Body: make([]byte, i*3000)}})
			require.NoError(t, err)
			_, err = c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.NotFound), Message: "none"}})
			require.Equal(t, codes.NotFound, status.Code(err))
			_, err = c.UnimplementedCall(ctx, &testgrpc.Empty{})
			require.Equal(t, codes.Unimplemented, status.Code(err))
			s, err := c.FullDuplexCall(ctx)
			require.NoError(t, err)
			for range 3 {
				require.NoError(t, s.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 100)}}))
				_, err = s.Recv()
				require.NoError(t, err)
			}
			require.NoError(t, s.CloseSend())
			_, err = s.Recv()
			require.Equal(t, io.EOF, err)
		}
	}
}

func wantMixed() map[string]int {
	return map[string]int{
		"grpc.testing.TestService/EmptyCall OK": 20, "grpc.testing.TestService/UnaryCall OK": 20,
		"grpc.testing.TestService/UnaryCall NOT_FOUND": 20, "grpc.testing.TestService/UnimplementedCall UNIMPLEMENTED": 20,
		"grpc.testing.TestService/FullDuplexCall OK": 20,
	}
}

// replay hands pieces to a parser and counts what it reports.
func replay(t testing.TB, pieces []protocol.Piece, server bool) (map[string]int, *Parser) {
	t.Helper()
	p, got := New(), make(map[string]int)
	done := func(r *protocol.Request) {
		require.Equal(t, server, r.Server)
		require.LessOrEqual(t, r.StartNanos, r.EndNanos)
		if r.GRPC {
			require.Contains(t, []string{"", trace}, r.Traceparent)
			got[r.Target+"/"+r.Operation+" "+r.Status]++
		} else {
			got[r.Operation+" "+r.Target+" "+r.Status]++
		}
	}
	for i := range pieces {
		pieces[i].ReadyNanos, pieces[i].AtNanos = int64(2*i), int64(2*i+1)
		p.Take(&pieces[i], done)
	}
	p.Close(int64(2*len(pieces)), done)
	return got, p
}

// whole gives pieces as they were recorded.
func whole(in []piece) (out []protocol.Piece) {
	for _, p := range in {
		out = append(out, protocol.Piece{Direction: p.direction, Seq: p.seq, Data: p.data})
	}
	return out
}

// split cuts pieces in two at random places, again and again.
func split(in []piece, r *rand.Rand, atMost int) (out []protocol.Piece) {
	for _, p := range in {
		for b, seq := p.data, p.seq; len(b) > 0; {
			n := min(len(b), 1+r.IntN(atMost))
			out = append(out, protocol.Piece{Direction: p.direction, Seq: seq, Data: b[:n]})
			b, seq = b[n:], seq+uint32(n)
		}
	}
	return out
}

// head keeps the beginning and the end of each piece, as the kernel does of long
// ones.
func head(in []piece, n, tail int) (out []protocol.Piece) {
	for _, p := range in {
		q := protocol.Piece{Direction: p.direction, Seq: p.seq, Data: p.data}
		if over := len(p.data) - n - tail; over > 0 {
			q.Data, q.Missed, q.Tail = p.data[:n], over, p.data[n+over:]
		}
		out = append(out, q)
	}
	return out
}
